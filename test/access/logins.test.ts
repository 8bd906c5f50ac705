import { expect, test } from "@jest/globals";
import { withRollback } from "../support/database.ts";
import { refusal } from "../support/engine.ts";
import type { Database } from "../support/factories.ts";

/** A login that is a member of a role has its privileges without `set role`, and must be held to the same limits (Q9). */
async function actAsMemberOf(db: Database, role: string): Promise<void> {
  await db.query(`create role laurel_test_member login in role ${role}`);
  await db.query("set local session authorization laurel_test_member");
}

async function aUserWithPoints(db: Database): Promise<string> {
  await db.query("insert into laurel.points_systems (key, name) values ('xp', 'XP')");
  await db.query("select laurel.identify_user('bob')");
  await db.query("select laurel.adjust_points('xp', 'bob', 5, 'test')");
  const { rows } = await db.query<{ id: string }>("select id from laurel.points_awards where user_id = 'bob'");
  return rows[0]?.id ?? "";
}

test("a member of laurel_user acts for nobody until it names its user, and then for that one", async () => {
  await withRollback(async (db) => {
    const award = await aUserWithPoints(db);
    await actAsMemberOf(db, "laurel_user");
    expect((await refusal(db, () => db.query("select laurel.user_profile('bob')"))).code).toBe("LR041");
    expect((await refusal(db, () => db.query("select laurel.record_event('words', 'bob')"))).code).toBe("LR041");
    expect((await refusal(db, () => db.query("select laurel.explain_award($1)", [award]))).code).toBe("LR005");
    await db.query("set local laurel.user_id = 'bob'");
    expect((await db.query("select laurel.user_points('xp', 'bob') ->> 'total' as total")).rows).toEqual([{ total: "5" }]);
    expect((await refusal(db, () => db.query("select laurel.user_profile('eve')"))).code).toBe("LR041");
  });
});

test("a member of laurel_admin verifies its own tenant alone", async () => {
  await withRollback(async (db) => {
    await aUserWithPoints(db);
    await db.query("insert into laurel.tenants (customer_id, name) values ('other', 'Other')");
    await db.query("update laurel_private.user_states set totals = '{7}'");
    await actAsMemberOf(db, "laurel_admin");
    expect((await db.query("select user_id from laurel.verify()")).rows).toEqual([{ user_id: "bob" }]);
    await db.query("set local laurel.tenant = 'other'");
    expect((await db.query("select user_id from laurel.verify()")).rows).toEqual([]);
  });
});
