import { expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { record, total, verify } from "../../support/engine.ts";
import { aMetric, aSystem, aTrigger, type Metric } from "../../support/factories.ts";

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
