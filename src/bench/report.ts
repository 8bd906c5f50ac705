import type { Outcome, Rates } from "./contest.ts";

/** Where a run was made. */
export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly server: string;
  readonly date: string;
}

/** The report as a table for people: a line for each contestant, goals beside Laurel's. */
export function formatOutcomes(outcomes: readonly Outcome[]): string {
  const header = ["", "events/s (least–most)", "Laurel’s share", "goal", ""];
  const lines = outcomes.flatMap((outcome) => {
    const goalFor = (name: string | undefined): string[] => {
      const goal = outcome.goals.find((each) => (each.kind === "rate" ? undefined : each.of) === name);
      if (goal === undefined) return ["", ""];
      const verdict = goal.isReached ? "ok" : "MISSED";
      if (goal.kind === "cost") return [`cost × ${goal.reached.toFixed(2)} ≤ ${String(goal.most)}`, verdict];
      return [`≥ ${goal.least < 100 ? String(Math.round(goal.least * 100) / 100) : whole(goal.least)}`, verdict];
    };
    return [
      [outcome.title, formatRates(outcome.laurel), "", ...goalFor(undefined)],
      ...outcome.rivals.map(({ name, rates, share }) => [
        `  ${name}`,
        formatRates(rates),
        share.toFixed(2),
        ...goalFor(name),
      ]),
    ];
  });
  const table = [header, ...lines];
  const widths = header.map((_, column) => Math.max(...table.map((cells) => cells[column]?.length ?? 0)));
  return table
    .map((cells) =>
      cells
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** One line that says where and when. */
export function formatMachine({ processor, cores, server, date }: Machine): string {
  return `${processor}, ${cores} cores; ${server}; ${date}`;
}

function formatRates({ median, least, most }: Rates): string {
  return `${whole(median)} (${whole(least)}–${whole(most)})`;
}

function whole(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}
