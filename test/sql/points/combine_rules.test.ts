import { expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { type Database, aBoost, aMetric, anAchievement, aSystem, aTrigger, type Metric } from "../../support/factories.ts";

test.each([
  { title: "of a metric alone", configure: async () => {} },
  {
    title: "with streak triggers that pay into the same systems",
    configure: async (db: Database, { first, second }: Systems) => {
      await aTrigger(db, { system: second, type: "streak", streak_length: 3 });
      await aTrigger(db, { system: first, type: "user_creation" });
      await anAchievement(db, { kind: "streak", streak_length: 7 });
    },
  },
  {
    title: "with triggers that pay into one of them",
    configure: async (db: Database, { second }: Systems) => {
      await aTrigger(db, { system: second, type: "streak", streak_length: 3 });
    },
  },
  {
    title: "with triggers that pay into another system",
    configure: async (db: Database) => {
      const other = await aSystem(db);
      await aBoost(db, { system: other });
      await aTrigger(db, { system: other, type: "user_creation" });
    },
  },
])("the rules $title are the same put together as they are and numbered anew", async ({ configure }) => {
  await withRollback(async (db) => {
    const metric = await aMetric(db);
    const systems = { first: await aSystem(db), second: await aSystem(db) };
    await anAchievement(db, { kind: "streak", streak_length: 2 });
    await anAchievement(db, { metric, metric_value: 10 });
    await aTrigger(db, { system: systems.second, metric });
    await aTrigger(db, { system: systems.first, metric, every: 5 });
    await aBoost(db, { system: systems.second });
    await aBoost(db, { system: systems.first });
    await aBoost(db, { system: systems.first, user_id: await aUserId(db) });
    await configure(db, systems);
    expect(await combine(db, "combine_rules", metric)).toEqual(await combine(db, "combine_any_rules", metric));
  });
});

interface Systems {
  readonly first: { id: string };
  readonly second: { id: string };
}

/** Boosts of different systems may come in any order. */
async function combine(db: Database, name: string, metric: Metric): Promise<unknown> {
  const { rows } = await db.query(
    `select to_jsonb(r) - 'boosts' as rules, (select jsonb_agg(b order by b.system_no, b.snapshot ->> 'id') from unnest(r.boosts) b) as boosts
     from laurel_private.${name}(laurel.current_tenant_id(), array[$1, laurel_private.nil_metric()]) r`,
    [metric.id],
  );
  return rows[0];
}

async function aUserId(db: Database): Promise<string> {
  await db.query("insert into laurel.users (id) values ('ada')");
  return "ada";
}
