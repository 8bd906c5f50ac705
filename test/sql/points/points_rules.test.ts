import { expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { record, total, verify } from "../../support/engine.ts";
import { aBoost, aLevel, aMetric, anAchievement, anAttribute, aSystem, aTrigger, type Metric, unique } from "../../support/factories.ts";
import { randomFrom } from "../../support/random.ts";

test("a change of configuration stays quick with hundreds of metrics and triggers in many systems", async () => {
  await withRollback(async (db) => {
    // Stored without compiling, which the change after them does once.
    await db.query("set local session_replication_role = replica");
    const metrics: Metric[] = [];
    for (let s = 0; s < 20; s++) {
      const system = await aSystem(db);
      await aTrigger(db, { system, type: "user_creation", points: 1 });
      for (let m = 0; m < 15; m++) {
        const metric = await aMetric(db);
        metrics.push(metric);
        await aTrigger(db, { system, metric });
      }
    }
    await db.query("set local session_replication_role = origin");
    // Milliseconds are expected, a second is a lot: seconds mean work that grows with metrics times triggers.
    await db.query("set local statement_timeout = '3s'");
    const system = await aSystem(db);
    const metric = metrics[0] as Metric;
    await aTrigger(db, { system, metric, points: 5 });
    await record(db, { metric: metric.key, user: "ada" });
    expect(await total(db, "ada", system)).toBe("5");
    expect(await verify(db)).toEqual([]);
  });
});

// What is compiled of one change by itself, and of others altogether: verify() compares all of it with the configuration.
test.each([1, 2, 3, 4])("after each of many changes the compiled rules are those of the configuration (seed %i)", async (seed) => {
  const random = randomFrom(seed);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  await withRollback(async (db) => {
    await anAttribute(db, { key: "kind", type: "event" });
    const systems = [await aSystem(db), await aSystem(db)];
    const metrics = [await aMetric(db), await aMetric(db)];
    const achievement = await anAchievement(db, { metric: metrics[0] as Metric });
    const change = (statement: string, values: unknown[] = []) => db.query(statement, values);
    const changes: (() => Promise<unknown>)[] = [
      async () => metrics.push(await aMetric(db)),
      () => change("insert into laurel.metrics (key, name) select 'more' || n || '_' || $1, 'More' from generate_series(1, 3) n", [unique("m")]),
      () => aTrigger(db, { system: pick(systems), metric: pick(metrics), status: pick(["active", "inactive"]), every: 2 }),
      () => aTrigger(db, { system: pick(systems), metric: pick(metrics), event_attributes: { kind: "gold" } }),
      () => aTrigger(db, { system: pick(systems), type: "user_creation" }),
      () => aTrigger(db, { system: pick(systems), type: "streak", streak_length: pick([2, 3, 7]) }),
      () => aTrigger(db, { system: pick(systems), type: "achievement", achievement_id: achievement.id }),
      // Two kinds at once, and two systems.
      () => change(
        `insert into laurel.points_triggers (system_id, type, points, status, metric_id, metric_threshold)
         values ($1, 'user_creation', 5, 'active', null, null), ($2, 'metric', 5, 'active', $3, 1)`,
        [pick(systems).id, pick(systems).id, pick(metrics).id]),
      () => change("update laurel.points_triggers set status = $1 where status <> 'archived'", [pick(["active", "inactive"])]),
      () => change("update laurel.points_triggers set points = points + 1 where type = $1 and status <> 'archived'", [pick(["metric", "streak"])]),
      () => change("update laurel.points_triggers set metric_id = $1 where type = 'metric' and metric_id = $2 and status <> 'archived'", [pick(metrics).id, pick(metrics).id]),
      () => change(
        `update laurel.points_triggers set type = 'user_creation', metric_id = null, metric_threshold = null, event_attributes = '{}'
         where id = (select id from laurel.points_triggers where type = 'metric' and status = 'inactive' order by id limit 1)`),
      () => change("update laurel.points_triggers set status = 'archived' where id = (select id from laurel.points_triggers where status <> 'archived' order by id limit 1)"),
      () => change("update laurel.metrics set name = name || '!' where id = $1", [pick(metrics).id]),
      () => aBoost(db, { system: pick(systems) }),
      () => aLevel(db, { system: pick(systems), points: Math.floor(random() * 1e6) }),
      () => change("update laurel.points_systems set max_points = 100000 where id = $1", [pick(systems).id]),
    ];
    for (let n = 0; n < 40; n += 1) {
      const one = pick(changes);
      await one();
      expect([one.toString(), await verify(db)]).toEqual([one.toString(), []]);
    }
  });
});
