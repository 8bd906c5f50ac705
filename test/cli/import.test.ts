import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { projectDirectory } from "../../src/config.ts";
import { importFile, type ImportSummary } from "../../src/imports/file_import.ts";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let folder: string;

beforeAll(async () => {
  database = await cloneDatabase();
  folder = mkdtempSync(join(tmpdir(), "laurel-import-"));
  await database.pools.owner.query(`
    insert into laurel.metrics (key, name) values ('commits', 'Commits'), ('spending', 'Spending');
    insert into laurel.attributes (key, name, type) values ('area', 'Area', 'event');
    insert into laurel.points_systems (key, name) values ('xp', 'XP');
    insert into laurel.points_triggers (system_id, type, points, status, metric_id, metric_threshold, block_if_out_of_points)
    select s.id, 'metric', t.points, 'active', m.id, 1, t.blocks
    from laurel.points_systems s
    join (values ('commits', 10, false), ('spending', -5, true)) as t (key, points, blocks) on true
    join laurel.metrics m on m.key = t.key;
    insert into laurel.points_triggers (system_id, type, points, status)
    select id, 'user_creation', 100, 'active' from laurel.points_systems`);
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  await database.pools.owner.query(`
    set laurel.tenant = 'default';
    truncate laurel.users cascade;
    truncate laurel.metric_events`);
});

let fileNumber = 0;

function aFile(content: string | Buffer): string {
  fileNumber += 1;
  const path = join(folder, `events-${fileNumber}.csv`);
  writeFileSync(path, content);
  return path;
}

interface Imported extends ImportSummary {
  readonly badLines: readonly (readonly [line: number, reason: string])[];
}

async function load(
  content: string | Buffer,
  options: { readonly mayCreate?: boolean; readonly batchSize?: number; readonly tenant?: string } = {},
): Promise<Imported> {
  const badLines: [number, string][] = [];
  const summary = await importFile({
    path: aFile(content),
    pools: database.pools,
    tenant: "",
    batchSize: 1000,
    mayCreate: false,
    onBadLine: (line, reason) => badLines.push([line, reason]),
    onProgress: () => undefined,
    ...options,
  });
  return { ...summary, badLines: badLines.sort(([a], [b]) => a - b) };
}

async function storedEvents(): Promise<unknown[]> {
  const found = await database.pools.owner.query<{ event: string }>(
    "select user_id || ' ' || metric_key || ' ' || value as event from laurel.metric_events order by user_id, id",
  );
  return found.rows.map(({ event }) => event);
}

describe("a good file", () => {
  test("is loaded whole, and says so", async () => {
    const imported = await load(
      "metric_key,user_id,value,occurred_at,idempotency_key,tz,attributes.area\n" +
        "commits,ada,1.5,2026-01-31T12:00:00Z,k1,Europe/London,docs\n" +
        "commits,ben,,,,,\n",
    );
    expect(imported).toEqual({ stored: 2, replayed: 0, bad: 0, users: 2, stoppedAfterLine: undefined, badLines: [] });
    const found = await database.pools.owner.query(
      `select e.user_id, e.value::text, e.attributes, e.occurred_at = '2026-01-31 12:00+00' as is_dated, u.tz
       from laurel.metric_events e join laurel.users u on u.id = e.user_id order by 1`,
    );
    expect(found.rows).toEqual([
      { user_id: "ada", value: "1.5", attributes: { area: "docs" }, is_dated: true, tz: "Europe/London" },
      { user_id: "ben", value: "1", attributes: {}, is_dated: false, tz: null },
    ]);
  });

  test.each([
    ["a byte order mark and CRLF", "\ufeffmetric_key,user_id\r\ncommits,ada\r\ncommits,ben\r\n"],
    ["old Macintosh line ends", "metric_key,user_id\rcommits,ada\rcommits,ben\r"],
    ["blank lines and no line end at the end", "metric_key,user_id\n\ncommits,ada\n\n\ncommits,ben"],
    ["quotes", '"metric_key","user_id"\n"commits","ada"\ncommits,"ben"\n'],
    ["its columns in another order", "user_id,metric_key\nada,commits\nben,commits\n"],
  ])("may have %s", async (_name, content) => {
    const imported = await load(content);
    expect(imported).toMatchObject({ stored: 2, bad: 0 });
    expect(await storedEvents()).toEqual(["ada commits 1", "ben commits 1"]);
  });

  test("keeps quotes, commas and line ends inside quoted fields", async () => {
    await load('metric_key,user_id\ncommits,"Ada ""the first"", of\nLondon"\n');
    expect(await storedEvents()).toEqual(['Ada "the first", of\nLondon commits 1']);
  });

  test("dates a new user's first award by the event, also when the line gives a time zone", async () => {
    await load("metric_key,user_id,occurred_at,tz\ncommits,yuki,2026-01-31T12:00:00Z,Asia/Tokyo\ncommits,zoe,2026-01-31T12:00:00Z,\n");
    const found = await database.pools.owner.query(
      "select user_id, occurred_at = '2026-01-31 12:00+00' as is_dated from laurel.points_awards where cause = 'user_creation' and user_id in ('yuki', 'zoe') order by 1",
    );
    expect(found.rows).toEqual([
      { user_id: "yuki", is_dated: true },
      { user_id: "zoe", is_dated: true },
    ]);
  });

  test("keeps each user's events in order where time zones change between them", async () => {
    await load(
      "metric_key,user_id,value,tz\n" +
        "commits,ada,1,Asia/Tokyo\ncommits,ada,2,Asia/Tokyo\ncommits,ada,3,Europe/London\ncommits,ada,4,\ncommits,ada,5,Asia/Tokyo\n",
    );
    expect(await storedEvents()).toEqual([1, 2, 3, 4, 5].map((value) => `ada commits ${value}`));
    const found = await database.pools.owner.query("select tz from laurel.users where id = 'ada'");
    expect(found.rows).toEqual([{ tz: "Asia/Tokyo" }]);
  });

  test("gives every user the time zone of its lines, new users and known ones, in one batch", async () => {
    await load("metric_key,user_id,tz\ncommits,ada,Asia/Tokyo\ncommits,ben,\n");
    const imported = await load(
      "metric_key,user_id,tz\n" +
        "commits,ada,Europe/London\ncommits,ben,Asia/Tokyo\ncommits,cyd,Asia/Tokyo\ncommits,cyd,Asia/Tokyo\ncommits,dan,\ncommits,ada,\n",
    );
    expect(imported).toMatchObject({ stored: 6, users: 4 });
    const found = await database.pools.owner.query("select id, tz from laurel.users order by id");
    expect(found.rows).toEqual([
      { id: "ada", tz: "Europe/London" },
      { id: "ben", tz: "Asia/Tokyo" },
      { id: "cyd", tz: "Asia/Tokyo" },
      { id: "dan", tz: null },
    ]);
  });

  test("goes to the tenant that is named", async () => {
    await database.pools.owner.query(`
      insert into laurel.tenants (customer_id, name) values ('acme', 'Acme') on conflict do nothing`);
    const imported = await load("metric_key,user_id\nmade,ada\n", { tenant: "acme", mayCreate: true });
    expect(imported).toMatchObject({ stored: 1, bad: 0 });
    const found = await database.pools.owner.query(
      "select t.customer_id from laurel.metric_events e join laurel.tenants t on t.id = e.tenant_id",
    );
    expect(found.rows).toEqual([{ customer_id: "acme" }]);
  });
});

describe("the same file again", () => {
  test.each([
    ["with idempotency keys", "metric_key,user_id,idempotency_key\ncommits,ada,a\ncommits,ada,b\n"],
    ["without", "metric_key,user_id\ncommits,ada\ncommits,ada\n"],
    ["with keys on some lines", "metric_key,user_id,idempotency_key,tz\ncommits,ada,a,Asia/Tokyo\ncommits,ada,,Asia/Tokyo\n"],
  ])("counts nothing twice, %s", async (_name, content) => {
    await load(content);
    const again = await load(content);
    expect(again).toMatchObject({ stored: 0, replayed: 2, bad: 0 });
    expect(await storedEvents()).toHaveLength(2);
  });

  test("loads what a run that was stopped left out", async () => {
    const content = `metric_key,user_id\n${"commits,ada\n".repeat(25)}`;
    const controller = new AbortController();
    const path = aFile(content);
    const options = { path, pools: database.pools, tenant: "", batchSize: 10, mayCreate: false, onBadLine: () => undefined };
    const stopped = await importFile({ ...options, onProgress: () => { controller.abort(); }, signal: controller.signal });
    expect(stopped).toMatchObject({ stored: 10, stoppedAfterLine: 11 });
    const finished = await importFile({ ...options, onProgress: () => undefined });
    expect(finished).toMatchObject({ stored: 15, replayed: 10, bad: 0, stoppedAfterLine: undefined });
  });

  test("counts a key that is there twice once, and says so", async () => {
    const imported = await load("metric_key,user_id,idempotency_key\ncommits,ada,k\ncommits,ada,k\ncommits,ben,k\n");
    expect(imported).toMatchObject({ stored: 2, replayed: 1, bad: 0 });
  });
});

describe("a bad line", () => {
  const good = "commits,ada,1,,,,\n";
  const header = "metric_key,user_id,value,occurred_at,idempotency_key,tz,attributes.area\n";

  test.each([
    ["a value that is no number", "commits,bad,many,,,,", "The value is not a number: \"many\"."],
    ["NaN", "commits,bad,NaN,,,,", "The value is not a number: \"NaN\"."],
    ["an infinite value", "commits,bad,Infinity,,,,", "The value is not a number: \"Infinity\"."],
    ["too large a value", "commits,bad,1000000000000000,,,,", /^The value is not valid: it has more than 15 digits before the point/],
    ["a value far too large", "commits,bad,1e9999,,,,", /^The value is not valid|overflow/],
    ["too fine a value", "commits,bad,0.0000000001,,,,", /^The value is not valid: it has more than 9 digits after the point/],
    ["an unknown metric", "nothing,bad,1,,,,", "No metric has the key nothing."],
    ["an empty metric", ",bad,1,,,,", /^No metric has the key/],
    ["no user", "commits,,1,,,,", "The user ID is not valid: it is empty."],
    ["a user ID of 256 characters", `commits,${"x".repeat(256)},1,,,,`, /^The user ID is not valid: it has more than 255 characters/],
    ["an idempotency key of 256 characters", `commits,bad,1,,${"x".repeat(256)},,`, /^The idempotency key is not valid/],
    ["a NUL", "commits,b\0ad,1,,,,", "The line has a NUL character."],
    ["bytes that are not UTF-8", Buffer.from([...Buffer.from("commits,b"), 0xff, ...Buffer.from("d,1,,,,")]), "The line has bytes that are not UTF-8."],
    ["an unknown time zone", "commits,bad,1,,,Mars/Base,", "Unknown time zone: Mars/Base."],
    ["a far future", "commits,bad,1,2999-01-01T00:00:00Z,,,", /more than 24 hours in the future/],
    ["a word for a time", "commits,bad,1,infinity,,,", /^The time is not of the form/],
    ["a day that there is not", "commits,bad,1,2026-02-30T00:00:00Z,,,", /out of range/],
    ["too long an attribute", `commits,bad,1,,,,${"x".repeat(1001)}`, /longer than 1,000 characters/],
    ["too few fields", "commits,bad", "The line has 2 fields, and the header 7."],
    ["too many fields", "commits,bad,1,,,,,,", "The line has 9 fields, and the header 7."],
    ["a quote inside a field", 'commits,b"ad,1,,,,', /^A quote stands inside a field/],
    ["text after a quote", 'commits,"bad"d,1,,,,', /^A quote stands inside a field/],
    ["a quote that is never closed", 'commits,"bad,1,,,,', /^A quote/],
    ["a trigger that its user cannot pay for", "spending,bad,100,,,,", "Not enough points: this event would take xp below 0."],
  ])("with %s is told, and the others are loaded", async (_name, line, reason) => {
    const content = Buffer.concat([Buffer.from(header + good), Buffer.from(line), Buffer.from(`\n${good}${good}`)]);
    const imported = await load(content);
    expect(imported.badLines).toEqual([
      [3, typeof reason === "string" ? reason : (expect.stringMatching(reason) as unknown)],
    ]);
    expect(imported).toMatchObject({ stored: 3, replayed: 0, bad: 1, users: 1 });
    expect(await storedEvents()).toEqual(["ada commits 1", "ada commits 1", "ada commits 1"]);
  });

  test("is the only one lost, however many there are and in whatever batch", async () => {
    const lines = Array.from({ length: 200 }, (_, index) => (index % 7 === 3 ? "commits,ada,0.0000000001" : `commits,ada,${index}`));
    const imported = await load(`metric_key,user_id,value\n${lines.join("\n")}\n`, { batchSize: 64 });
    const expectedBad = lines.flatMap((line, index) => (line.endsWith("01") && line.includes("0.") ? [index + 2] : []));
    expect(imported.badLines.map(([line]) => line)).toEqual(expectedBad);
    expect(imported.stored).toBe(200 - expectedBad.length);
  });

  test("with a wrong time zone is told, whichever user it is of, and the user's other lines are loaded", async () => {
    const imported = await load(
      "metric_key,user_id,value,tz\n" +
        "commits,ada,1,Mars/Base\ncommits,ada,2,Asia/Tokyo\ncommits,ben,3,Mars/Base\ncommits,ada,4,Mars/Base\ncommits,ben,5,\ncommits,cyd,6,Moon/Sea\n",
    );
    expect(imported.badLines).toEqual([2, 4, 5, 7].map((line) => [line, expect.stringMatching(/^Unknown time zone: (Mars|Moon)/)]));
    expect(await storedEvents()).toEqual(["ada commits 2", "ben commits 5"]);
    const found = await database.pools.owner.query("select id, tz from laurel.users order by id");
    expect(found.rows).toEqual([{ id: "ada", tz: "Asia/Tokyo" }, { id: "ben", tz: null }]);
  });

  test("is numbered by where it starts, also after fields of several lines and blank lines", async () => {
    const imported = await load('metric_key,user_id\ncommits,"a\nda"\n\nnothing,"b\nen"\ncommits,c"\nnothing,dan\n');
    expect(imported.badLines.map(([line]) => line)).toEqual([5, 7, 8]);
    expect(imported.stored).toBe(1);
  });

  test("with a key of a former run still counts once it is mended", async () => {
    await load("metric_key,user_id,value,idempotency_key\ncommits,ada,many,k1\ncommits,ada,1,k2\n");
    const mended = await load("metric_key,user_id,value,idempotency_key\ncommits,ada,7,k1\ncommits,ada,1,k2\n");
    expect(mended).toMatchObject({ stored: 1, replayed: 1, bad: 0 });
  });
});

describe("a file that is none", () => {
  test.each([
    ["empty", "", /^the file is empty/],
    ["of blank lines", "\n\n", /^the file is empty/],
    ["without its header", "commits,ada\n", /^line 1: there is no column "commits"/],
    ["without a required column", "metric_key,value\n", /^line 1: the header lacks user_id/],
    ["with an unknown column", "metric_key,user_id,colour\n", /^line 1: there is no column "colour"/],
    ["with a column twice", "metric_key,user_id,user_id\n", /^line 1: the column user_id is there twice/],
    ["with an undeclared attribute", "metric_key,user_id,attributes.colour\n", /^no event attribute has the key colour/],
  ])("%s, is refused in one line", async (_name, content, message) => {
    await expect(load(content)).rejects.toThrow(message);
  });

  test("is refused when its tenant is unknown", async () => {
    await expect(load("metric_key,user_id\n", { tenant: "nobody" })).rejects.toThrow("No tenant has the customer ID nobody.");
  });
});

describe("--create", () => {
  test("declares the metrics and attributes of the file, and no others", async () => {
    const imported = await load(
      "metric_key,user_id,attributes.some-kind\nlines-changed,ada,x\nnot a key,ada,x\nlines-changed,ada,x\n",
      { mayCreate: true },
    );
    expect(imported).toMatchObject({ stored: 2, bad: 1 });
    const found = await database.pools.owner.query(
      `select 'metric' as what, key, name from laurel.metrics where key = 'lines-changed'
       union all select type::text, key, name from laurel.attributes where key = 'some-kind' order by 1`,
    );
    expect(found.rows).toEqual([
      { what: "event", key: "some-kind", name: "Some kind" },
      { what: "metric", key: "lines-changed", name: "Lines changed" },
    ]);
  });
});

describe("npm run import", () => {
  function run(...parameters: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
    return new Promise((resolve) => {
      execFile(
        process.execPath,
        ["--disable-warning=ExperimentalWarning", join(projectDirectory, "src/cli/import.ts"), ...parameters],
        { env: { DATABASE_URL: database.connectionString, PATH: "/usr/bin:/bin" } },
        (error, stdout, stderr) => {
          resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
        },
      );
    });
  }

  test("ends with status 0 when every line was loaded", async () => {
    const ended = await run(aFile("metric_key,user_id\ncommits,ada\n"));
    expect(ended).toEqual({ status: 0, stderr: "", stdout: expect.stringMatching(/^Loaded 1 event of 1 user in /) });
  });

  test("ends with status 1 and the number of each bad line", async () => {
    const ended = await run(aFile("metric_key,user_id\ncommits,ada\nnothing,ada\n"));
    expect(ended).toMatchObject({ status: 1, stderr: "line 3: No metric has the key nothing.\n" });
    expect(ended.stdout).toMatch(/^Loaded 1 event of 1 user in .*\n1 bad line, not loaded: see above\.\n$/);
  });

  test.each([
    ["there is no such file", ["/nowhere/events.csv"]],
    ["it is a folder", [tmpdir()]],
    ["--batch", ["events.csv", "--batch", "0"]],
    ["missing required argument", []],
  ])("says in one line that %s", async (message, parameters) => {
    const ended = await run(...parameters);
    expect(ended.status).toBe(1);
    expect(ended.stdout).toBe("");
    expect(ended.stderr).toContain(message);
    expect(ended.stderr.trim().split("\n")).toHaveLength(1);
  });
});
