import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { authorsOf, eventsOf } from "../../src/demo/commit_events.ts";
import { demonstrate, type DemonstrationOptions } from "../../src/demo/demonstration.ts";
import { readGitHistory } from "../../src/demo/git_history.ts";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let folder: string;

beforeAll(async () => {
  database = await cloneDatabase();
  folder = mkdtempSync(join(tmpdir(), "laurel-demo-"));
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

function git(path: string, parameters: readonly string[], environment: Readonly<Record<string, string>> = {}): void {
  execFileSync("git", ["-C", path, ...parameters], {
    stdio: "pipe",
    env: { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: folder, GIT_CONFIG_NOSYSTEM: "1", ...environment },
  });
}

function aRepository(name: string): string {
  const path = join(folder, name);
  mkdirSync(path);
  git(path, ["init", "--quiet"]);
  return path;
}

function commit(
  path: string,
  { author, date, subject, file, lines }: { author: string; date: string; subject: string; file: string; lines: number },
): void {
  mkdirSync(join(path, file, ".."), { recursive: true });
  writeFileSync(join(path, file), "a line\n".repeat(lines));
  git(path, ["add", "--all"]);
  git(path, ["commit", "--quiet", "--message", subject], {
    GIT_AUTHOR_NAME: author,
    GIT_AUTHOR_EMAIL: `${author}@Example.org`,
    GIT_AUTHOR_DATE: date,
    GIT_COMMITTER_NAME: author,
    GIT_COMMITTER_EMAIL: `${author}@example.org`,
    GIT_COMMITTER_DATE: date,
  });
}

/** Two authors, three commits. */
function aSmallHistory(name: string): string {
  const path = aRepository(name);
  commit(path, { author: "ada", date: "2026-01-01T12:00:00+02:00", subject: "Begin", file: "README", lines: 2 });
  commit(path, { author: "ben", date: "2026-01-02T12:00:00+01:00", subject: "Fix the start", file: "src/a/start.ts", lines: 1001 });
  commit(path, { author: "ada", date: "2026-01-03T12:00:00+02:00", subject: "docs: explain", file: "docs/page.md", lines: 3 });
  return path;
}

function options(path: string): DemonstrationOptions {
  return { pools: database.pools, path, mostCommits: 1000, server: undefined, onProgress: () => undefined };
}

describe("a repository's history", () => {
  test("is read oldest first, with what changed", async () => {
    const commits = await readGitHistory(aSmallHistory("read"), 1000);
    expect(commits).toMatchObject([
      { author: "ada@example.org", authorName: "ada", authoredAt: "2026-01-01T12:00:00+02:00", kind: "other", area: "root", filesChanged: 1, linesChanged: 2 },
      { author: "ben@example.org", authorName: "ben", authoredAt: "2026-01-02T12:00:00+01:00", kind: "fix", area: "src", filesChanged: 1, linesChanged: 1001 },
      { author: "ada@example.org", authorName: "ada", authoredAt: "2026-01-03T12:00:00+02:00", kind: "docs", area: "docs", filesChanged: 1, linesChanged: 3 },
    ]);
  });

  test("becomes three events a commit, in the author's time zone", async () => {
    const commits = await readGitHistory(aSmallHistory("events"), 1000);
    const authors = authorsOf(commits);
    expect(authors).toEqual([
      { id: "ada@example.org", name: "ada", timeZone: "Etc/GMT-2", commits: 2 },
      { id: "ben@example.org", name: "ben", timeZone: "Etc/GMT-1", commits: 1 },
    ]);
    expect(eventsOf(commits, authors).map(({ metricKey, userId, value }) => `${userId} ${metricKey} ${value ?? ""}`)).toEqual([
      "ada@example.org commits 1", "ada@example.org files-changed 1", "ada@example.org lines-changed 2",
      "ben@example.org commits 1", "ben@example.org files-changed 1", "ben@example.org lines-changed 1001",
      "ada@example.org commits 1", "ada@example.org files-changed 1", "ada@example.org lines-changed 3",
    ]);
  });

  test("may be limited to its newest commits", async () => {
    const commits = await readGitHistory(aSmallHistory("limited"), 1);
    expect(commits.map(({ kind }) => kind)).toEqual(["docs"]);
  });

  test("must be there", async () => {
    const empty = aRepository("empty");
    const plain = join(folder, "plain");
    mkdirSync(plain);
    await expect(readGitHistory(join(folder, "nowhere"), 1)).rejects.toThrow(/^there is no folder /);
    await expect(readGitHistory(plain, 1)).rejects.toThrow(/ is no Git repository/);
    await expect(readGitHistory(empty, 1)).rejects.toThrow(/ has no commits yet$/);
  });
});

describe("the demonstration", () => {
  test("awards each commit, twice run or once", async () => {
    const path = aSmallHistory("shown");
    const shown = await demonstrate(options(path));
    // ada, with all three boosts (2 × 1.25 × 1.5 = 3.75) on commits: 10 → 37.5 → 37, twice. Her creation, before her own
    // boost: 50 × 2.5 = 125. ben, not boosted himself (2.5): 125 + 25, and 1,001 lines: −5.
    expect(shown).toMatchObject({
      isNewSystem: true,
      events: { stored: 9, replayed: 0, byRest: 0, refused: [] },
      brokenInvariants: 0,
      leaders: [
        { userId: "ada@example.org", name: "ada", total: "187", level: "contributor" },
        { userId: "ben@example.org", name: "ben", total: "145", level: "contributor" },
      ],
    });
    expect(shown.explained?.explanation).toMatch(/^xp: 10 points for every 1 of commits/);

    const again = await demonstrate(options(path));
    expect(again).toMatchObject({ isNewSystem: false, events: { stored: 0, replayed: 9 }, leaders: shown.leaders });
  });

  test("has a trigger of every kind, all active, and a leaderboard", async () => {
    const found = await database.pools.owner.query(
      "select type, bool_or(status = 'active') as is_active, min(points) < 0 as deducts from laurel.points_triggers group by type order by type",
    );
    expect(found.rows).toEqual([
      { type: "user_creation", is_active: true, deducts: false },
      { type: "metric", is_active: true, deducts: true },
      { type: "streak", is_active: true, deducts: false },
      { type: "achievement", is_active: true, deducts: false },
      { type: "time", is_active: true, deducts: false },
    ]);
    // In the order of their totals.
    const ranked = await database.pools.owner.query(
      `select e.user_id, e.value::int from laurel.leaderboard_entries e join laurel.leaderboards b on b.id = e.leaderboard_id
       where b.key = 'most-xp' order by e.value desc`,
    );
    expect(ranked.rows).toEqual([{ user_id: "ada@example.org", value: 187 }, { user_id: "ben@example.org", value: 145 }]);
  });

  test("awards every third day in a row, the tenth commit, and each day from then on", async () => {
    const path = aRepository("busy");
    for (let n = 0; n < 10; n += 1) {
      const day = String(1 + Math.floor(n / 2)).padStart(2, "0");
      commit(path, { author: "dan", date: `2026-03-${day}T${n % 2 === 0 ? "08" : "15"}:00:00Z`, subject: "Go on", file: `f${n}`, lines: 1 });
    }
    await demonstrate(options(path));
    const { owner } = database.pools;
    const causes = async (): Promise<unknown> =>
      (await owner.query("select cause, count(*)::int as n, sum(base_points)::int as base from laurel.points_awards where user_id = 'dan@example.org' group by 1 order by 1")).rows;
    const atOnce = [
      { cause: "user_creation", n: 1, base: 50 }, { cause: "metric", n: 10, base: 100 },
      { cause: "streak", n: 1, base: 30 }, { cause: "achievement", n: 1, base: 100 },
    ];
    expect(await causes()).toEqual(atOnce);
    await owner.query("select laurel.run_due_time_triggers(now() + interval '2 days 1 hour')");
    expect(await causes()).toEqual([...atOnce, { cause: "time", n: 2, base: 2 }]);
  });

  test("sends its last events by REST where a server runs, and counts them once all the same", async () => {
    const path = aRepository("rest");
    commit(path, { author: "cyd", date: "2026-02-01T12:00:00Z", subject: "Begin", file: "a", lines: 1 });
    const received: unknown[] = [];
    // A server with another database: what it takes is not here, so that it must come by SQL as well.
    const server = createServer((request, response) => {
      received.push([request.method, request.url, request.headers["x-api-key"]]);
      response.statusCode = 201;
      response.end("{}");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const shown = await demonstrate({ ...options(path), server: { url, adminKey: "prefix.body" } });
      expect(received).toEqual(
        ["files-changed", "lines-changed"].map((key) => ["POST", `/v1/metrics/${key}/event`, "prefix.body"]),
      );
      expect(shown.events).toEqual({ stored: 3, replayed: 0, byRest: 0, refused: [] });
    } finally {
      server.close();
    }
  });

  test("leaves a points system xp alone that somebody else made", async () => {
    const other = aSmallHistory("other");
    await database.pools.owner.query("update laurel.points_systems set description = 'Ours' where key = 'xp'");
    await expect(demonstrate(options(other))).rejects.toThrow(/^there is a points system xp already/);
  });
});
