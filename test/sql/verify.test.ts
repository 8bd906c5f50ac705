import { describe, expect, test } from "@jest/globals";
import { startingFrom, withRollback } from "../support/database.ts";
import { as, first, insertEvents, record, refusal, verify } from "../support/engine.ts";
import { aBoost, aLevel, aMetric, anAchievement, anAttribute, aSystem, aTenant, aTrigger, aUser, type Database } from "../support/factories.ts";

/** Rule Q8: every derived thing, corrupted on purpose, is reported. */

/** Two users with everything that is derived: totals, counts, ledgers, keys. */
async function aLivedInDatabase(db: Database): Promise<void> {
  await anAttribute(db, { key: "kind", type: "event" });
  await anAttribute(db, { key: "plan" });
  const words = await aMetric(db, { key: "words" });
  const spend = await aMetric(db, { key: "spend" });
  const system = await aSystem(db, { key: "xp", max_points: 200 });
  await aUser(db, { id: "ada", tz: "Asia/Tokyo", attributes: { plan: "pro" } });
  await aLevel(db, { system, key: "low", points: 10 });
  await aTrigger(db, { system, type: "user_creation", points: 7 });
  await aTrigger(db, { system, metric: words, every: 2, points: 3 });
  await aTrigger(db, { system, metric: words, every: 2, points: 5, event_attributes: { kind: "book" } });
  await aTrigger(db, { system, metric: spend, points: -4 });
  await aBoost(db, { system, name: "A", multiplier: "1.5", rounding: "nearest" });
  await aBoost(db, { system, name: "B", multiplier: "1.1", user_attributes: { plan: "pro" } });
  const ten = await anAchievement(db, { key: "ten", metric: words, metric_value: 8 });
  const done = await anAchievement(db, { key: "done" });
  await anAchievement(db, { key: "both", prerequisites: [ten, done] });
  await anAchievement(db, { key: "library", metric: words, metric_value: 100, event_attributes: { kind: "book" } });
  await aTrigger(db, { system, type: "achievement", points: 2, achievement_id: ten.id });
  await db.query("update laurel_private.achievement_backfills set finished_at = now()");
  for (const user of ["ada", "bob"]) {
    await record(db, { metric: "words", user, value: 5, attributes: { kind: "book" }, key: "k1" });
    await insertEvents(db, [
      { metric: "words", user, value: "-2.5", attributes: { kind: "book" } },
      { metric: "words", user, value: 6, attributes: { kind: "book" }, key: "k2" },
      { metric: "spend", user, value: 2 },
    ]);
    await record(db, { metric: "words", user, value: -1 });
    await db.query("select laurel.complete_achievement('done', $1)", [user]);
    await db.query("select laurel.adjust_points('xp', $1, 2, 'A present', 'present')", [user]);
  }
}

/**
 * The same, with triggers and constraints asleep: who corrupts afterwards is nobody but the owner. Put to sleep once,
 * because PostgreSQL plans everything anew when they are.
 */
async function anUnguardedDatabase(db: Database): Promise<void> {
  await aLivedInDatabase(db);
  await db.query("set constraints all immediate");
  await db.query("set local session_replication_role = replica");
}

/** Corrupts as nobody but the owner can, behind every trigger and constraint. */
async function corrupt(db: Database, ...statements: string[]): Promise<void> {
  await db.query("set local session_replication_role = replica");
  for (const statement of statements) {
    const done = await db.query(statement);
    expect({ statement, rows: done.rowCount === 0 ? "none" : "some" }).toEqual({ statement, rows: "some" });
  }
  await db.query("set local session_replication_role = origin");
}

const ada = "user_id = 'ada'";
/** Sets one array element of a user's state, where that of a metric or of the only points system stands. */
const ofMetric = (column: string, expression: string, key = "words"): string => {
  const place = `[array_position(metric_ids, (select id from laurel.metrics where key = '${key}'))]`;
  return `update laurel_private.user_states set ${column}${place} = ${expression.replaceAll("@", place)} where ${ada}`;
};
const ofSystem = (column: string, expression: string): string =>
  `update laurel_private.user_states set ${column}[1] = ${expression} where ${ada}`;
/** Takes a metric out of a user's state. */
const withoutMetric = (key: string): string =>
  `update laurel_private.user_states s set (metric_ids, metric_totals, metric_peaks, last_event_ids) = (
     select array_agg(m.id), array_agg(m.total), array_agg(m.peak), array_agg(m.last)
     from unnest(s.metric_ids, s.metric_totals, s.metric_peaks, s.last_event_ids) m (id, total, peak, last)
     where m.id <> (select id from laurel.metrics where key = '${key}')) where ${ada}`;
/** Checks would refuse some of these even here; dropping one is part of the corruption. */
const unchecked = (table: string, ...constraints: string[]) =>
  constraints.map((name) => `alter table ${table} drop constraint if exists ${name}`);

describe("a clean database", () => {
  test("reports nothing", async () => {
    await withRollback(async (db) => {
      expect(await verify(db)).toEqual([]);
      await aLivedInDatabase(db);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("reports nothing after edits, archiving and deletion of what can be edited", async () => {
    await withRollback(async (db) => {
      await aLivedInDatabase(db);
      const edits = [
        "update laurel.points_triggers set points = points + 100, status = 'inactive'",
        "update laurel.points_triggers set status = 'active'",
        "update laurel.points_boosts set multiplier = 3",
        "update laurel.points_levels set points = points + 1",
        "update laurel.points_systems set max_points = 1",
        `select laurel.identify_user('ada', '{"attributes": {"plan": "free"}, "tz": "UTC"}')`,
        "insert into laurel.metric_events (metric_key, user_id, attributes) values ('words', 'ada', '{\"kind\": \"book\"}')",
        "delete from laurel.points_levels",
        "update laurel.points_triggers set event_attributes = '{}' where event_attributes <> '{}'",
        "insert into laurel.metric_events (metric_key, user_id) values ('words', 'ada')",
        `update laurel.points_triggers set event_attributes = '{"kind": "film"}' where type = 'metric'`,
        "insert into laurel.metric_events (metric_key, user_id, value, attributes) values ('words', 'ada', 9, '{\"kind\": \"film\"}')",
        "update laurel.points_triggers set status = 'archived'",
        "update laurel.points_boosts set archived_at = now()",
        "update laurel.metrics set archived_at = now()",
        "update laurel.points_systems set archived_at = now()",
        "update laurel.achievements set status = 'archived' where kind = 'achievement'",
        "update laurel.achievements set status = 'archived' where kind <> 'achievement'",
        "delete from laurel.attributes",
      ];
      for (const edit of edits) {
        await db.query(edit);
        expect({ edit, broken: await verify(db) }).toEqual({ edit, broken: [] });
      }
    });
  });

  test("an admin may ask, of its own tenant; services and users may not (Q9)", async () => {
    await withRollback(async (db) => {
      await aLivedInDatabase(db);
      await corrupt(db, ofMetric("metric_totals", "metric_totals@ - 1"));
      expect(await as(db, "laurel_admin", () => verify(db))).toHaveLength(1);
      await db.query("select set_config('laurel.tenant', $1, true)", [await aTenant(db)]);
      expect(await as(db, "laurel_admin", () => verify(db))).toEqual([]);
      expect(await verify(db)).toHaveLength(1);
      await db.query("select set_config('laurel.user_id', 'ada', true)");
      expect((await refusal(db, () => as(db, "laurel_user", () => verify(db)))).code).toBe("42501");
    });
  });

  test("a row says what, whose, what was expected and what is there", async () => {
    await withRollback(async (db) => {
      await aLivedInDatabase(db);
      // 5 - 2.5 + 6 - 1 = 7.5
      await corrupt(db, ofMetric("metric_totals", "7.4"));
      const row = first(await verify(db));
      expect(row.invariant).toMatch(/total/);
      expect(row.user_id).toBe("ada");
      expect(row.subject).toContain("words");
      expect([Number(row.expected), Number(row.actual)]).toEqual([7.5, 7.4]);
    });
  });
});

describe("verify() names the user of", () => {
  const corruptions: Record<string, string[]> = {
    "a metric total too low": [ofMetric("metric_totals", "metric_totals@ - 0.000000001")],
    "a metric total too high": [ofMetric("metric_totals", "metric_totals@ + 1"), ofMetric("metric_peaks", "metric_peaks@ + 1")],
    "a metric peak too high": [ofMetric("metric_peaks", "metric_peaks@ + 1")],
    "a metric peak too low": [ofMetric("metric_peaks", "metric_totals@")],
    "a missing metric total": [withoutMetric("spend")],
    "a metric total of no event": [
      `update laurel_private.user_states set metric_ids = metric_ids || gen_random_uuid(), metric_totals = metric_totals || 1.0,
         metric_peaks = metric_peaks || 1.0, last_event_ids = last_event_ids || last_event_ids[1] where ${ada}`,
    ],
    "a trigger count": [`update laurel.points_trigger_counts set count = count - 1 where ${ada}`],
    "a trigger count's peak": [`update laurel.points_trigger_counts set peak = peak + 1 where ${ada}`],
    "a missing trigger count": [`delete from laurel.points_trigger_counts where ${ada}`],
    "a balance too high": [ofSystem("totals", "totals[1] + 1")],
    "a balance too low": [ofSystem("totals", "0")],
    "a balance's last sequence": [ofSystem("last_sequences", "last_sequences[1] + 1")],
    "a missing balance": [`update laurel_private.user_states set system_ids = '{}', totals = '{}', last_sequences = '{}' where ${ada}`],
    "a balance without ledger rows": [
      `update laurel_private.user_states set system_ids = system_ids || gen_random_uuid(), totals = totals || 5::bigint,
         last_sequences = last_sequences || 1::bigint where ${ada}`,
    ],
    "a ledger row's points, balance adapted": [
      `update laurel.points_awards set points = points + 1, total_after = total_after + 1 where ${ada} and sequence = (select max(sequence) from laurel.points_awards where ${ada})`,
      ofSystem("totals", "totals[1] + 1"),
    ],
    "the first ledger row missing": [`delete from laurel.points_awards where ${ada} and sequence = 1`],
    "a ledger row in the middle missing": [`delete from laurel.points_awards where ${ada} and sequence = 3`],
    "the last ledger row missing": [
      `delete from laurel.points_awards where ${ada} and sequence = (select max(sequence) from laurel.points_awards where ${ada})`,
    ],
    "all ledger rows missing": [`delete from laurel.points_awards where ${ada}`],
    "a ledger row twice": [
      `insert into laurel.points_awards select (jsonb_populate_record(a, jsonb_build_object('id', laurel_private.uuid_v7()))).*
       from laurel.points_awards a where ${ada} and sequence = 2`,
    ],
    "a gap in the sequence": [
      `update laurel.points_awards set sequence = sequence + 1 where ${ada} and sequence = (select max(sequence) from laurel.points_awards where ${ada})`,
      ofSystem("last_sequences", "last_sequences[1] + 1"),
    ],
    "two ledger rows with their places changed": [
      `update laurel.points_awards set sequence = 5 - sequence where ${ada} and sequence in (2, 3)`,
    ],
    "a broken chain of totals": [
      `update laurel.points_awards set total_before = total_before + 1, total_after = total_after + 1 where ${ada} and sequence = 3`,
    ],
    "a total that does not follow": [
      ...unchecked("laurel.points_awards", "award_changes_the_total"),
      `update laurel.points_awards set total_after = total_after + 1 where ${ada} and sequence = 3`,
    ],
    "wrong points before boosts": [
      `update laurel.points_awards set base_points = base_points + 1 where ${ada} and cause = 'metric' and sequence = 2`,
    ],
    "a wrong number of firings": [`update laurel.points_awards set firings = firings + 1 where ${ada} and sequence = 2`],
    "wrong points per firing": [`update laurel.points_awards set trigger_points = trigger_points + 1 where ${ada} and sequence = 2`],
    "a wrong product": [`update laurel.points_awards set boost_multiplier = boost_multiplier + 0.0001 where ${ada} and sequence = 2`],
    "a boost left out of a row": [`update laurel.points_awards set boosts = boosts - 0 where ${ada} and sequence = 2`],
    "a boost added to a row": [`update laurel.points_awards set boosts = boosts || boosts where ${ada} and sequence = 2`],
    "wrong rounded points": [`update laurel.points_awards set rounded_points = rounded_points + 1 where ${ada} and sequence = 2`],
    "a cap that was passed": [`update laurel.points_awards set max_points = 1 where ${ada} and sequence = 2`],
    "an event removed": [`delete from laurel.metric_events where ${ada} and metric_key = 'spend'`],
    "an event removed with its total": [
      `delete from laurel.metric_events where ${ada} and metric_key = 'spend'`,
      withoutMetric("spend"),
    ],
    "an event's value changed": [`update laurel.metric_events set value = value + 1 where ${ada} and metric_key = 'spend'`],
    "an event's attributes changed": [
      `update laurel.metric_events set attributes = '{"kind": "film"}' where ${ada} and idempotency_key = 'k2'`,
    ],
    "an event added behind the engine": [
      `insert into laurel_private.metric_event_log (tenant_id, user_id, metric_id, metric_key)
       select tenant_id, 'ada', metric_id, metric_key from laurel.user_metrics where ${ada} and metric_key = 'words'`,
    ],
    "an event moved to another user": [`update laurel.metric_events set user_id = 'ada' where user_id = 'bob' and metric_key = 'spend'`],
    "a forgotten idempotency key": [`delete from laurel_private.idempotency_keys where ${ada} and key = 'k1'`],
    "a dangling idempotency key": [
      `insert into laurel_private.idempotency_keys (tenant_id, user_id, scope_id, key, result_id)
       select tenant_id, user_id, scope_id, 'dangling', gen_random_uuid() from laurel_private.idempotency_keys where ${ada} and key = 'k1'`,
    ],
    "an idempotency key with another's event": [
      `update laurel_private.idempotency_keys k set result_id = (
         select result_id from laurel_private.idempotency_keys o where o.user_id = 'bob' and o.key = 'k1') where ${ada} and key = 'k1'`,
    ],
    "an adjustment's forgotten key": [`delete from laurel_private.idempotency_keys where ${ada} and key = 'present'`],
    "a missing state": [`delete from laurel_private.user_states where ${ada}`],
    "a state's time zone": [`update laurel_private.user_states set time_zone = 'Asia/Seoul' where ${ada}`],
    "a state's attributes": [`update laurel_private.user_states set attributes = '{}' where ${ada}`],
    "a state's version of attributes": [`update laurel_private.user_states set attributes_version = 9 where ${ada}`],
    "a missing completion": [`delete from laurel.user_achievements where ${ada} and event_id is not null`],
    "a missing completion of achievements": [
      `delete from laurel.user_achievements c using laurel.achievements a where a.id = c.achievement_id and a.key = 'both' and c.${ada}`,
    ],
    "a completion of nothing": [`update laurel.user_achievements set achievement_id = gen_random_uuid() where ${ada} and event_id is null`],
    "a completion by no event": [`update laurel.user_achievements set event_id = gen_random_uuid() where ${ada} and event_id is not null`],
    "a sum of matching events": [`update laurel_private.achievement_counts set count = count + 1 where ${ada}`],
    "an achievement awarded twice": [
      `update laurel.points_awards set cause = 'achievement', trigger_id = (select trigger_id from laurel.points_awards where ${ada} and cause = 'achievement'),
         achievement_id = (select achievement_id from laurel.points_awards where ${ada} and cause = 'achievement') where ${ada} and sequence = 2`,
    ],
    "a missing user": ["delete from laurel.users where id = 'ada'"],
  };

  const unguarded = startingFrom(anUnguardedDatabase);

  test("nobody before it is corrupted", async () => {
    await unguarded(async (db) => {
      expect(await verify(db)).toEqual([]);
    });
  });

  test.each(Object.entries(corruptions))("%s", async (_, statements) => {
    await unguarded(async (db) => {
      for (const statement of statements) {
        const done = await db.query(statement);
        if (!statement.startsWith("alter")) expect({ statement, found: done.rowCount !== 0 }).toEqual({ statement, found: true });
      }
      const broken = await verify(db);
      expect(broken.length).toBeGreaterThan(0);
      expect(broken.map((row) => row.user_id)).toContain("ada");
      for (const row of broken) {
        expect(row.invariant).toMatch(/^[a-z_0-9]+$/);
        expect(row.subject).not.toBe("");
      }
    });
  });
});

describe("verify() reports compiled rules that", () => {
  const unguarded = startingFrom(anUnguardedDatabase);

  test.each([
    ["are missing", "delete from laurel_private.points_rules where metric_key = 'words'"],
    ["lack a trigger", "update laurel_private.points_rules set triggers = triggers[2:] where metric_key = 'words'"],
    ["lack a boost", "update laurel_private.points_rules set boosts = boosts[2:] where metric_key = 'words'"],
    ["know another attribute", "update laurel_private.points_rules set event_attribute_keys = '{}' where metric_key = 'words'"],
    ["missed a new cap", "update laurel.points_systems set max_points = 3"],
    ["missed a trigger's points", "update laurel.points_triggers set points = 99 where type = 'user_creation'"],
    ["missed an achievement's value", "update laurel.achievements set metric_value = 7 where key = 'ten'"],
    ["missed a trigger's status", "update laurel.points_triggers set status = 'inactive' where type = 'metric'"],
    ["missed a boost's multiplier", "update laurel.points_boosts set multiplier = 9 where name = 'A'"],
    ["missed a level", "update laurel.points_levels set points = 11"],
    ["show another level", "update laurel_private.shown_systems set levels[1] = '{}'"],
    ["do not show a system", "delete from laurel_private.shown_systems"],
    ["missed an archived metric", "update laurel.metrics set archived_at = now() where key = 'words'"],
  ])("%s", async (_, statement) => {
    await unguarded(async (db) => {
      expect((await db.query(statement)).rowCount).toBeGreaterThan(0);
      expect((await verify(db)).map((row) => row.invariant)).toEqual(
        expect.arrayContaining([expect.stringMatching(/rules/)]),
      );
    });
  });
});

describe("events after a repair", () => {
  test("recompiling from the configuration makes verify() content again", async () => {
    await withRollback(async (db) => {
      await aLivedInDatabase(db);
      await corrupt(db, "delete from laurel_private.points_rules");
      expect(await verify(db)).not.toEqual([]);
      await db.query("select laurel_private.compile_points_rules(laurel.current_tenant_id())");
      await record(db, { metric: "words", user: "ada", value: 100 });
      expect(await verify(db)).toEqual([]);
    });
  });
});
