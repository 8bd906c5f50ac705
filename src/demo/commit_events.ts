import type { EventRow } from "../imports/event_rows.ts";
import type { Commit } from "./git_history.ts";

/** What people who write code are counted by. */
export const demoMetrics = [
  { key: "commits", name: "Commits", units: "commits" },
  { key: "files-changed", name: "Files changed", units: "files" },
  { key: "lines-changed", name: "Lines changed", units: "lines" },
] as const;

/** An author, with the time zone most of the commits were made in. */
export interface Author {
  readonly id: string;
  readonly name: string;
  readonly timeZone: string | null;
  readonly commits: number;
}

/** The authors, those with most commits first. */
export function authorsOf(commits: readonly Commit[]): Author[] {
  const byAuthor = Map.groupBy(commits, ({ author }) => author);
  return [...byAuthor]
    .map(([id, own]) => ({
      id,
      name: own.at(-1)?.authorName ?? id,
      timeZone: mostCommon(own.map(({ authoredAt }) => timeZoneOf(authoredAt))) ?? null,
      commits: own.length,
    }))
    .sort((a, b) => b.commits - a.commits || (a.id < b.id ? -1 : 1));
}

/** The events of each commit, in the commits' order. The commit's hash is their idempotency key. */
export function eventsOf(commits: readonly Commit[], authors: readonly Author[]): EventRow[] {
  const timeZones = new Map(authors.map(({ id, timeZone }) => [id, timeZone]));
  return commits.flatMap((commit, index) => {
    const values = { commits: 1, "files-changed": commit.filesChanged, "lines-changed": commit.linesChanged };
    return demoMetrics
      .filter(({ key }) => values[key] > 0)
      .map(({ key }) => ({
        line: index,
        metricKey: key,
        userId: commit.author,
        value: String(values[key]),
        occurredAt: commit.authoredAt,
        idempotencyKey: commit.hash,
        timeZone: timeZones.get(commit.author) ?? null,
        attributes: { kind: commit.kind, area: commit.area.slice(0, 255) },
      }));
  });
}

/** "2026-01-31T12:00:00+02:00" → "Etc/GMT-2", whose sign is that way round; null for offsets without such a name. */
function timeZoneOf(instant: string): string | null {
  const [, sign, hours, minutes] = /([+-])(\d\d):(\d\d)$/.exec(instant) ?? [];
  if (sign === undefined) return "Etc/GMT";
  const offset = Number(hours);
  if (minutes !== "00" || offset > (sign === "+" ? 14 : 12)) return null;
  if (offset === 0) return "Etc/GMT";
  return `Etc/GMT${sign === "+" ? "-" : "+"}${offset}`;
}

function mostCommon<T>(values: readonly T[]): T | undefined {
  const counts = new Map<T, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0];
}
