import type { Attributes } from "../support/factories.ts";

/** Rule LB1 as plainly as it can be said, to hold the engine against. Nothing here knows SQL. */

export interface Board {
  readonly source: string;
  /** Dates as YYYY-MM-DD. */
  readonly startsOn: string;
  readonly endsOn: string | null;
  readonly unit: "day" | "month" | "year" | null;
  readonly interval: number | null;
  /** Times of day as HH:MM. */
  readonly from: string | null;
  readonly until: string | null;
  readonly breakdown: readonly string[];
  readonly most: number;
}

/** Something added to a metric or earned in a points system, in the order applied. */
export interface Score {
  readonly user: string;
  readonly source: string;
  readonly amount: number;
  readonly at: Date;
  readonly zone: string;
}

export interface Place {
  readonly user: string;
  readonly value: number;
}

const dayMs = 86_400_000;
const textOf = (date: Date): string => date.toISOString().slice(0, 10);
const plusDays = (day: string, days: number): string => textOf(new Date(Date.parse(day) + days * dayMs));

function plusMonths(day: string, months: number): string {
  const [year = 0, month = 0, ofMonth = 0] = day.split("-").map(Number);
  const last = new Date(Date.UTC(year, month - 1 + months + 1, 0)).getUTCDate();
  return textOf(new Date(Date.UTC(year, month - 1 + months, Math.min(ofMonth, last))));
}

/** First days of the runs, one after the other. */
function nthRun({ startsOn, unit, interval }: Board, n: number): string {
  const length = n * (interval ?? 1);
  return unit === "day" ? plusDays(startsOn, length) : plusMonths(startsOn, unit === "year" ? 12 * length : length);
}

/** The run that a day lies in, by its first day. */
export function runOf(board: Board, day: string): { readonly on: string; readonly end: string | null } | undefined {
  if (day < board.startsOn || (board.endsOn !== null && day > board.endsOn)) return undefined;
  if (board.unit === null) return { on: board.startsOn, end: board.endsOn };
  let n = 0;
  while (nthRun(board, n + 1) <= day) n += 1;
  const end = plusDays(nthRun(board, n + 1), -1);
  return { on: nthRun(board, n), end: board.endsOn !== null && board.endsOn < end ? board.endsOn : end };
}

/** Date and time of day that a moment has in a time zone. */
export function localOf(at: Date, zone: string): { readonly day: string; readonly time: string } {
  const parts = Object.fromEntries(
    new Intl.DateTimeFormat("en-CA", {
      timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
    }).formatToParts(at).map(({ type, value }) => [type, value]),
  );
  return { day: `${parts["year"]}-${parts["month"]}-${parts["day"]}`, time: `${parts["hour"]}:${parts["minute"]}` };
}

/** A run is final 12 hours after its last day is over in UTC. */
export function isFinal(board: Board, run: string, at: Date): boolean {
  const end = runOf(board, run)?.end ?? null;
  return end !== null && Date.parse(end) + 1.5 * dayMs <= at.getTime();
}

/** The run in which it counts when it is recorded now. */
export function countedRun(board: Board, score: Pick<Score, "at" | "zone">, finalBefore: Date): string | undefined {
  const { day, time } = localOf(score.at, score.zone);
  if (board.from !== null && board.until !== null && board.from > board.until) {
    if (time < board.from && time >= board.until) return undefined;
  } else if ((board.from !== null && time < board.from) || (board.until !== null && time >= board.until)) return undefined;
  const run = runOf(board, day);
  if (run === undefined) return undefined;
  return isFinal(board, run.on, finalBefore) ? undefined : run.on;
}

/** Who is where in a run and group: more first, among equals who got there first. */
export function standing(
  board: Board,
  run: string,
  group: Attributes,
  scores: readonly { readonly score: Score; readonly run: string | undefined }[],
  attributesOf: (user: string) => Attributes,
): Place[] {
  const reached = new Map<string, { value: number; order: number }>();
  scores.forEach(({ score, run: counted }, order) => {
    if (score.source !== board.source || counted !== run || score.amount === 0) return;
    reached.set(score.user, { value: (reached.get(score.user)?.value ?? 0) + score.amount, order });
  });
  const isInGroup = (user: string): boolean =>
    board.breakdown.every((key) => group[key] !== undefined && attributesOf(user)[key] === group[key]);
  return [...reached]
    .filter(([user, { value }]) => value > 0 && isInGroup(user))
    .sort(([, a], [, b]) => b.value - a.value || a.order - b.order)
    .slice(0, board.most)
    .map(([user, { value }]) => ({ user, value }));
}
