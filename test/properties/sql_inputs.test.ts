import { beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { DatabaseError } from "pg";
import type { DatabaseRole } from "../../src/postgres/pools.ts";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";
import { createStoredState, json, seedOf, text } from "../support/inputs.ts";

/**
 * Every function of the contract, by every role that may call it, with arguments of their SQL types and of any value:
 * an answer, or one of Laurel's own errors with a message, a detail and a hint (section 8), and after an error nothing
 * is stored. The same for events that are inserted. Repeat a failure with LAUREL_TEST_SEED.
 */

const runs = Number(process.env["LAUREL_TEST_RUNS"] ?? 10);
const seed = seedOf("SQL inputs");

let database: TestDatabase;
let storedState: () => Promise<string>;
/** What is stored, as long as nothing was done since it was looked at. */
let stored: string | undefined;
let ids: string[];

interface Signature {
  readonly name: string;
  readonly types: string[];
  readonly names: string[];
  readonly role: DatabaseRole;
  readonly writes: boolean;
}
let signatures: Signature[];

beforeAll(async () => {
  database = await cloneDatabase();
  const { owner } = database.pools;
  await owner.query(`
    insert into laurel.attributes (key, name, type) values ('plan', 'Plan', 'user'), ('device', 'Device', 'event');
    insert into laurel.metrics (key, name) values ('words', 'Words');
    insert into laurel.points_systems (key, name, max_points) values ('xp', 'XP', 1000);
    insert into laurel.points_levels (system_id, key, name, points) select id, 'low', 'Low', 0 from laurel.points_systems;
    insert into laurel.achievements (key, name, kind, status) values ('done', 'Done', 'api', 'active');
    insert into laurel.points_triggers (system_id, type, points, status, metric_id, metric_threshold)
      select s.id, 'metric', 3, 'active', m.id, 2 from laurel.points_systems s, laurel.metrics m;
    select laurel.record_event('words', 'ann', 5)`);
  ids = (await owner.query<{ id: string }>("select id from laurel.points_awards")).rows.map(({ id }) => id);
  const found = await owner.query<Signature>(`
    select p.proname as name, coalesce(p.proargnames, '{}')::text[] as names,
      array(select format_type(t, null) from unnest(p.proargtypes) with ordinality x (t, no) order by no) as types, r.role,
      p.provolatile = 'v' as writes
    from pg_proc p cross join unnest(array['laurel_admin', 'laurel_service', 'laurel_user']) r (role)
    where p.pronamespace = 'laurel'::regnamespace and p.pronargs > 0 and has_function_privilege(r.role, p.oid, 'execute')
    order by p.proname, r.role`);
  signatures = found.rows;
  storedState = await createStoredState(owner);
});

const storable = (given: string): boolean => !given.includes("\0") && given.isWellFormed();
/** What PostgreSQL's jsonb can hold; the rest never reaches a function. */
const storableJson = json.filter((value) => !/\\u0000|\\ud[89a-f]/i.test(JSON.stringify(value)));

const soundTexts: Readonly<Record<string, readonly string[]>> = {
  metric_key: ["words"], system_key: ["xp"], achievement_key: ["done"], user_id: ["ann", "eve"], aggregation: ["daily", "weekly", "monthly"],
  user_attributes: ["plan:pro", ""], idempotency_key: ["k"], reason: ["because"],
};
const soundJson: Readonly<Record<string, readonly unknown[]>> = {
  attributes: [{}, { device: "phone" }, { plan: "x" }],
  profile: [{}, { name: "N" }, { tz: "Asia/Tokyo" }, { attributes: { plan: "pro" } }, { attributes: { plan: null } }, { signUpDate: "2026-01-01" }, { deviceTokens: ["a"] }],
  preferences: [{}, { streak: { enabled: false } }, { notifications: { recap: ["email"] } }],
};

function valueOf(type: string, name: string): fc.Arbitrary<unknown> {
  const some = (...values: readonly unknown[]): fc.Arbitrary<unknown> => fc.constantFrom(...values);
  switch (type) {
    case "text":
      return fc.oneof({ weight: 5, arbitrary: some(...(soundTexts[name] ?? ["a"])) }, { weight: 2, arbitrary: text.filter(storable) }, { weight: 1, arbitrary: some(null) });
    case "numeric":
      return some("1", "0", "-2.5", "7", "0.000000001", "NaN", "Infinity", "-Infinity", "1e14", "999999999999999.999999999", "1e15", "1e-10", "1e130000", "-1e-16000", null);
    case "integer":
      return some(1, 0, -1, 7, 100, 101, 2_147_483_647, -2_147_483_648, null);
    case "bigint":
      return some("1", "0", "-1", "9223372036854775807", "-9223372036854775808", null);
    case "boolean":
      return some(true, false, null);
    case "uuid":
      return some(...ids, "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", null);
    case "date":
      return some("2026-01-01", "2026-02-01", "2027-02-05", "infinity", "-infinity", "0001-01-01 BC", "4713-01-01 BC", "5874897-12-31", null);
    case "timestamp with time zone":
      return some("2026-01-01T00:00:00Z", "2026-11-01T00:00:00+14", "infinity", "-infinity", "4713-01-02 00:00:00+00 BC", "294276-12-31 23:59:59+00", "0001-01-01 00:00:00+00 BC", null);
    case "jsonb":
      return fc.oneof(
        { weight: 4, arbitrary: some(...(soundJson[name] ?? [{}])).map((value) => JSON.stringify(value)) },
        { weight: 2, arbitrary: storableJson.map((value) => JSON.stringify(value)) },
        { weight: 1, arbitrary: some(null) },
      );
    case "text[]":
      return fc.oneof({ weight: 3, arbitrary: some(["ann"], ["ann", "bob"], [], ["", null], null) }, { weight: 1, arbitrary: fc.array(text.filter(storable), { maxLength: 3 }) });
    default:
      throw new Error(`no values of type ${type} are known: add some`);
  }
}

const tally = { done: 0, refused: 0 };

/** Runs a statement in a role; an error must be Laurel's, whole, and leave nothing behind. */
async function attempt(role: DatabaseRole, statement: string, values: readonly unknown[]): Promise<void> {
  const client = await database.pools.owner.connect();
  const about = JSON.stringify({ role, statement, values });
  try {
    await client.query("begin");
    await client.query("select set_config('laurel.user_id', 'ann', true)");
    await client.query(`set local role ${role}`);
    await client.query(statement, [...values]);
    tally.done += 1;
    stored = undefined;
    await client.query("commit");
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    tally.refused += 1;
    const { code = "", message, detail, hint } = error;
    expect({ ours: code.startsWith("LR"), hasAll: Boolean(message && detail && hint), code, message, about })
      .toEqual({ ours: true, hasAll: true, code, message, about });
    await client.query("rollback");
  } finally {
    client.release();
  }
}

test("every function of the contract", async () => {
  expect(signatures.length).toBeGreaterThan(60);
  for (const { name, types, names, role, writes } of signatures) {
    // Erasing takes ann from the others.
    const statement = `select laurel.${name}(${types.map((type, no) => `$${no + 1}::${type}`).join(", ")})`;
    const values = fc.tuple(...types.map((type, no) => valueOf(type, name === "erase_user" ? "other" : (names[no] ?? ""))));
    await fc.assert(
      fc.asyncProperty(values, async (given) => {
        const refusedBefore = tally.refused;
        const before = writes ? (stored ??= await storedState()) : undefined;
        await attempt(role, statement, given);
        if (writes && tally.refused > refusedBefore) expect((stored = await storedState()) === before || JSON.stringify({ statement, given })).toBe(true);
      }),
      { seed, numRuns: runs },
    );
  }
});

test("inserted events", async () => {
  const row = fc.tuple(valueOf("text", "metric_key"), valueOf("text", "user_id"), valueOf("numeric", ""), valueOf("jsonb", "attributes"),
    valueOf("text", "idempotency_key"), valueOf("timestamp with time zone", ""));
  for (const role of ["laurel_admin", "laurel_service"] as const) {
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 3 }), async (rows) => {
        const refusedBefore = tally.refused;
        const before = (stored ??= await storedState());
        const places = rows.map((_row, no) => `($${no * 6 + 1}, $${no * 6 + 2}, $${no * 6 + 3}, $${no * 6 + 4}, $${no * 6 + 5}, $${no * 6 + 6})`);
        await attempt(role, `insert into laurel.metric_events (metric_key, user_id, value, attributes, idempotency_key, occurred_at) values ${places.join(", ")}`, rows.flat());
        if (tally.refused > refusedBefore) expect((stored = await storedState()) === before || JSON.stringify(rows)).toBe(true);
      }),
      { seed, numRuns: runs * 3 },
    );
  }
});

test("leave everything right that is derived", async () => {
  expect((await database.pools.owner.query("select * from laurel.verify()")).rows).toEqual([]);
  process.stdout.write(`SQL inputs: ${signatures.length} functions by role, ${tally.done} calls done, ${tally.refused} refused\n`);
  expect(tally.done).toBeGreaterThan(signatures.length / 4);
  expect(tally.refused).toBeGreaterThan(signatures.length);
});
