import { beforeAll, beforeEach, expect, test } from "@jest/globals";
import type { Pool } from "pg";
import { aMeasuredSystem, compareFigures, day, eraseUser, figures, foldSome, foldUsers } from "../support/analytics.ts";
import { cloneDatabase } from "../support/database.ts";
import { record, verify } from "../support/engine.ts";
import { type Attributes, type Database, unique } from "../support/factories.ts";
import { seedOf } from "../support/inputs.ts";
import { openTransaction, randomFrom, startAndBlock } from "../support/races.ts";

/** Rule D3: attributes change while figures are folded by them; nobody waits, and every snapshot is right. */

const filters: readonly Attributes[] = [{}, { plan: "pro" }, { plan: "free" }];
const endings = ["commit", "rollback"] as const;

let owner: Pool;
let user: string;

const become = (db: Database, plan: string | null, id = user) => db.query("select laurel.identify_user($1, $2)", [id, { attributes: { plan } }]);
const earn = (value: number, id = user) => record(owner, { metric: "words", user: id, value });
const foldAll = async (): Promise<void> => {
  while ((await foldUsers(owner)) > 0);
  while ((await foldSome(owner, 20_000)) > 1);
};
/** All figures, of everybody and by plan, against ledger and users. */
const isRight = async (): Promise<void> => {
  await compareFigures(owner, [[6, 0], [40, 3]], filters);
  expect(await verify(owner)).toEqual([]);
};

beforeAll(async () => {
  owner = (await cloneDatabase()).pools.owner;
  await aMeasuredSystem(owner);
  await become(owner, "pro", "another");
  await earn(4, "another");
});

// A user with 10 × 3 points of plan free, folded, and one more event that is not.
beforeEach(async () => {
  user = unique("user");
  await become(owner, "free");
  await earn(10);
  await foldAll();
  await earn(1);
});

test.each(endings)("a change of attributes waits for no fold of awards, nor does the fold for it (%s)", async (how) => {
  const newcomer = unique("newcomer");
  await earn(7, newcomer);
  const changing = await openTransaction(owner);
  await become(changing.client, "pro");
  await become(changing.client, "pro", newcomer);
  // The newcomer is folded as it was before the change.
  expect(await foldSome(owner, 20_000)).toBeGreaterThan(1);
  await isRight();
  await changing.end(how);
  await isRight();
  await foldAll();
  await isRight();
});

test("nothing is left of a segment that a user came to and left, whichever is folded first", async () => {
  const passing = { plan: unique("passing") };
  await foldAll();
  await become(owner, passing.plan);
  await become(owner, "pro");
  // Rows take the room of those that were removed: they are not in the order in which they came.
  await owner.query(
    `with came as (delete from laurel_private.user_count_changes where users > 0 and attributes = $1 returning *)
     insert into laurel_private.user_count_changes select * from came`, [passing]);
  while ((await foldUsers(owner, 1)) > 0) await isRight();
  for (const table of ["segments where attributes = $1", "user_counts where segment_id = laurel_private.segment_of($1)"]) {
    expect((await owner.query(`select from laurel_private.${table}`, [passing])).rowCount).toBe(0);
  }
});

test.each(endings)("attributes that change while a fold is under way (%s) are those of the next one", async (how) => {
  const newcomer = unique("newcomer");
  await earn(7, newcomer);
  const folding = await openTransaction(owner);
  expect(await foldSome(folding.client, 20_000)).toBeGreaterThan(1);
  await become(owner, "pro");
  await become(owner, "pro", newcomer);
  await isRight();
  await folding.end(how);
  await isRight();
  await foldAll();
  await isRight();
});

test.each(endings)("users who change once more while they are moved (%s) are moved once more", async (how) => {
  await become(owner, "pro");
  await isRight();
  const moving = await openTransaction(owner);
  expect(await foldUsers(moving.client)).toBeGreaterThan(0);
  await become(owner, null);
  await isRight();
  expect(await foldUsers(owner)).toBe(0);
  await moving.end(how);
  await isRight();
  await foldAll();
  await isRight();
  await become(owner, "free");
  await foldAll();
  await isRight();
});

test.each(endings)("a change that is not committed yet (%s) is moved by the fold after it", async (how) => {
  const changing = await openTransaction(owner);
  await become(changing.client, "pro");
  await foldUsers(owner);
  await isRight();
  await changing.end(how);
  await isRight();
  await foldAll();
  await isRight();
});

test.each(endings)("a snapshot from before a move (%s) has what it had", async (how) => {
  await become(owner, "pro");
  const reading = await owner.connect();
  await reading.query("begin isolation level repeatable read read only");
  const before = await figures(reading, day(6), day(0), "plan:pro");
  const moving = await openTransaction(owner);
  await foldUsers(moving.client);
  await foldSome(moving.client, 20_000);
  expect(await figures(reading, day(6), day(0), "plan:pro")).toEqual(before);
  await moving.end(how);
  await become(owner, null);
  await foldAll();
  expect(await figures(reading, day(6), day(0), "plan:pro")).toEqual(before);
  await reading.query("rollback");
  reading.release();
  await isRight();
});

const rebuild = (db: Database) => db.query("select laurel_private.rebuild_rollups()");
/** Segments that nobody is in, users that no segment is of, changes that wait. */
const leftOvers = async (): Promise<unknown> => {
  const found = await owner.query<Record<string, number>>(
    `select
       (select count(*)::int from laurel_private.segments s where not exists (
         select from laurel.users u where u.tenant_id = s.tenant_id and laurel_private.segment_of(u.attributes) = s.id)) as segments,
       (select count(*)::int from laurel.users u where not exists (
         select from laurel_private.segments s
         where s.tenant_id = u.tenant_id and s.id = laurel_private.segment_of(u.attributes) and s.attributes = u.attributes)) as users,
       (select count(*)::int from laurel_private.user_count_changes) as changes`,
  );
  return found.rows[0];
};

test.each([
  ["a count that is too high", "update laurel_private.user_counts set users = users + 1 where segment_id = laurel_private.everybody()"],
  ["a count that is lost", "delete from laurel_private.user_counts where segment_id <> laurel_private.everybody()"],
  ["a count of nobody", "insert into laurel_private.user_counts select tenant_id, segment_id, joined_on - 1, 1 from laurel_private.user_counts"],
  ["a change that nobody made", "insert into laurel_private.user_count_changes select tenant_id, current_date, 1, 'nobody', '{}' from laurel.users limit 1"],
  ["a change that is lost", "delete from laurel_private.user_count_changes"],
  ["a segment that is lost", "delete from laurel_private.segments where attributes @> '{\"plan\": \"free\"}'"],
  ["a segment with others' attributes", "update laurel_private.segments set attributes = '{\"plan\": \"none\"}' where attributes @> '{\"plan\": \"free\"}'"],
  [
    "a segment that nobody is in",
    `insert into laurel_private.segments
     select id, laurel_private.segment_of('{"plan": "gone"}'), '{"plan": "gone"}' from laurel.tenants`,
  ],
])("a rebuild mends %s", async (_, corruption) => {
  await become(owner, "pro", unique("newcomer"));
  const look = async (): Promise<unknown> => [await leftOvers(), await verify(owner)];
  const before = await look();
  await owner.query(corruption);
  expect(await look()).not.toEqual(before);
  await rebuild(owner);
  expect(await leftOvers()).toEqual({ segments: 0, users: 0, changes: 0 });
  await isRight();
});

test.each(endings)("a rebuild leaves out who comes or changes in a transaction that is open (%s): the next fold has them", async (how) => {
  const changing = await openTransaction(owner);
  await become(changing.client, "pro");
  await become(changing.client, "pro", unique("newcomer"));
  await rebuild(owner);
  await isRight();
  await changing.end(how);
  await isRight();
  await foldAll();
  expect(await leftOvers()).toEqual({ segments: 0, users: 0, changes: 0 });
  await isRight();
});

test.each(endings)("who comes or changes does not wait for a rebuild (%s), and is counted once", async (how) => {
  const rebuilding = await openTransaction(owner);
  await rebuild(rebuilding.client);
  await become(owner, "pro");
  await become(owner, "pro", unique("newcomer"));
  expect(await foldUsers(owner)).toBe(0);
  await isRight();
  await rebuilding.end(how);
  await isRight();
  await foldAll();
  expect(await leftOvers()).toEqual({ segments: 0, users: 0, changes: 0 });
  await isRight();
});

test("who changes after a rebuild has counted and before it has placed users is where it belongs", async () => {
  await become(owner, null, "another");
  // The rebuild's count has its snapshot and waits for this row.
  const holding = await openTransaction(owner);
  await holding.client.query("select from laurel_private.user_count_changes where user_id = 'another' for update");
  const { result } = await startAndBlock(owner, owner, rebuild);
  await become(owner, "pro");
  await become(owner, "pro", unique("newcomer"));
  await holding.end("commit");
  await result;
  expect(await leftOvers()).toMatchObject({ users: 0, changes: 5 });
  await isRight();
  await foldAll();
  expect(await leftOvers()).toEqual({ segments: 0, users: 0, changes: 0 });
  await isRight();
  await become(owner, "pro", "another");
});

test.each(endings)("an erasure waits for users who are moved (%s), and takes its user out of the segment it is in then", async (how) => {
  await become(owner, "pro");
  const moving = await openTransaction(owner);
  expect(await foldUsers(moving.client)).toBeGreaterThan(0);
  const { result } = await startAndBlock(owner, owner, (client) => client.query("select laurel.erase_user($1)", [user]));
  await moving.end(how);
  await result;
  expect(await verify(owner)).toEqual([]);
  await foldAll();
  expect(await verify(owner)).toEqual([]);
  expect((await owner.query("select from laurel_private.user_count_changes")).rowCount).toBe(0);
});

test.each(endings)("no users are moved while one is erased (%s)", async (how) => {
  await become(owner, "pro");
  const erasing = await openTransaction(owner);
  await erasing.client.query("select laurel.erase_user($1)", [user]);
  await become(owner, "free", "another");
  expect(await foldUsers(owner)).toBe(0);
  await erasing.end(how);
  expect(await verify(owner)).toEqual([]);
  await foldAll();
  expect(await verify(owner)).toEqual([]);
  await become(owner, "pro", "another");
});

test("the first of a segment has left it: until that is folded its second is found", async () => {
  const [best, second] = [unique("best"), unique("second")];
  for (const [id, value] of [[best, 900], [second, 800]] as const) {
    await become(owner, "pro", id);
    await earn(value, id);
  }
  await foldAll();
  const top = async (plan: string): Promise<unknown> => (await figures(owner, day(6), day(0), `plan:${plan}`)).users["mostUserId"];
  expect([await top("pro"), await top("free")]).toEqual([best, expect.not.stringContaining("best")]);
  await become(owner, "free", best);
  expect([await top("pro"), await top("free")]).toEqual([second, best]);
  await foldAll();
  expect([await top("pro"), await top("free")]).toEqual([second, best]);
  expect(await verify(owner)).toEqual([]);
});

test("events, changes, erasures, folds and looks at once", async () => {
  const seed = seedOf("segments at once");
  let isOver = false;
  let folded = 0;
  const loop = async (work: () => Promise<unknown>): Promise<void> => {
    while (!isOver) await work();
  };
  const actor = async (no: number): Promise<void> => {
    const random = randomFrom(seed + no);
    const pick = (n: number): number => Math.floor(random() * n);
    for (let n = 0; n < 60; n += 1) {
      const id = `${no} ${pick(5)}`;
      await [
        () => earn(1 + pick(9), id), () => earn(1 + pick(9), id),
        () => become(owner, [null, "free", "pro"][pick(3)] ?? null, id), () => become(owner, [null, "free", "pro"][pick(3)] ?? null, id),
        () => (pick(3) === 0 ? eraseUser(owner, id) : Promise.resolve()),
      ][pick(5)]?.();
    }
  };
  // Here others are writing: the fold waits for their transactions.
  const fold = async (): Promise<void> => {
    folded += (await owner.query<{ n: number }>("select laurel_private.fold_earnings(7, '0') as n")).rows[0]?.n ?? 0;
  };
  const others = [loop(fold), loop(() => foldUsers(owner, 3)), loop(() => foldUsers(owner)), loop(() => compareFigures(owner, [[6, 0]], filters.slice(1)))];
  try {
    // It waits for those of all databases of the server, so for other tests' as well: until some came about.
    while (folded < 20) await Promise.all([actor(1), actor(2), actor(3)]);
  } finally {
    isOver = true;
  }
  await Promise.all(others);
  expect(await verify(owner)).toEqual([]);
  await foldAll();
  expect(await verify(owner)).toEqual([]);
});
