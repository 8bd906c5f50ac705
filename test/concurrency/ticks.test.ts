import { beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { Client, Pool, PoolClient } from "pg";
import { Client as PgClient, DatabaseError } from "pg";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";
import { first, ledger, record, verify } from "../support/engine.ts";
import { aMetric, anAttribute, aSystem, aTrigger, type Database, type Metric, type System, type Trigger } from "../support/factories.ts";
import { openTransaction, randomFrom, startAndBlock } from "../support/races.ts";

/**
 * Rules TR5 and Q4 with several workers, some of which are killed, while users are moved, changed and erased and triggers are switched off
 * and on: every tick is applied exactly once. Repeat a failure with LAUREL_TEST_SEED.
 */

const hour = 3_600_000;
/** For so long nobody looked after the clocks. */
const days = 4;
const users = Array.from({ length: 30 }, (_, n) => `user-${String(n).padStart(2, "0")}`);
const zones = ["UTC", "America/New_York", "Europe/London", "Asia/Kathmandu", "Pacific/Kiritimati"] as const;
const cap = 20;

let database: TestDatabase;
let owner: Pool;

beforeAll(async () => {
  database = await cloneDatabase();
  owner = database.pools.owner;
});

const run = async (db: Database, asOf: Date, most: number | null = null): Promise<number> =>
  Number(first((await db.query<{ n: string }>("select laurel.run_due_time_triggers($1, $2) as n", [asOf, most])).rows).n);

const switchTo = (db: Database, trigger: Trigger, status: "active" | "inactive") =>
  db.query("update laurel.points_triggers set status = $2 where id = $1", [trigger.id, status]);

/** Lets a trigger have been active, and its clocks have stood still, for so long. */
async function setBack(trigger: Trigger, since: Date): Promise<void> {
  await owner.query("update laurel_private.time_trigger_spans set activated_at = $2, begins_at = $2, looks_from = $2 where trigger_id = $1", [trigger.id, since]);
  await owner.query("delete from laurel_private.user_clocks where trigger_id = $1", [trigger.id]);
}

describe("everything at once", () => {
  let metric: Metric;
  let free: System;
  let capped: System;
  let hourly: Trigger;
  let daily: Trigger;
  let toggled: Trigger;
  let refill: Trigger;
  const erased = new Set<string>();

  beforeAll(async () => {
    metric = await aMetric(owner);
    await anAttribute(owner, { key: "plan" });
    free = await aSystem(owner);
    capped = await aSystem(owner, { max_points: cap });
    await aTrigger(owner, { system: free, metric, points: 7 });
    await aTrigger(owner, { system: capped, metric, points: -5 });
    hourly = await aTrigger(owner, { system: free, type: "time", points: 2, time_unit: "hours", time_interval: 1 });
    daily = await aTrigger(owner, { system: free, type: "time", points: 3, time_unit: "days", time_interval: 1 });
    toggled = await aTrigger(owner, { system: free, type: "time", points: 1, time_unit: "hours", time_interval: 3 });
    refill = await aTrigger(owner, { system: capped, type: "time", points: 1, time_unit: "hours", time_interval: 1, user_attributes: { plan: "pro" } });
    const since = new Date(Date.now() - days * 24 * hour - hour / 2);
    for (const [n, id] of users.entries()) {
      await owner.query("insert into laurel.users (id, tz, attributes, created_at) values ($1, $2, $3, $4)", [
        id, zones[n % zones.length], JSON.stringify({ plan: n % 3 === 0 ? "free" : "pro" }), since]);
    }
    for (const trigger of [hourly, daily, toggled, refill]) await setBack(trigger, since);
  });

  test("three workers, one of them killed again and again, and all that may happen meanwhile", async () => {
    const seed = Number(process.env["LAUREL_TEST_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
    process.stdout.write(`concurrent ticks: seed ${seed}\n`);
    const counts = { ticks: 0, killed: 0, events: 0, adjustments: 0, profiles: 0, switches: 0, erasures: 0 };
    let isOver = false;

    /** For any moment from before the first tick to a few hours ahead; mostly for now. */
    const worker = async (no: number, connect: () => Promise<Client | PoolClient>, done: (client: Client | PoolClient) => void): Promise<void> => {
      const random = randomFrom(seed + no);
      const client = await connect();
      try {
        while (!isOver) {
          const ahead = random() < 0.03;
          const asOf = new Date(Date.now() + (ahead ? random() * 5 * hour : random() < 0.5 ? 0 : -random() * days * 24 * hour));
          const most = ahead && random() < 0.5 ? null : 1 + Math.floor(random() * 150);
          counts.ticks += await run(client, asOf, most);
        }
      } finally {
        done(client);
      }
    };
    const pooled = (no: number) => worker(no, () => owner.connect(), (client) => { (client as PoolClient).release(); });
    const mortal = async (): Promise<void> => {
      const random = randomFrom(seed + 9);
      while (!isOver) {
        const client = new PgClient({ connectionString: database.connectionString });
        client.on("error", () => undefined);
        await client.connect();
        const pid = first((await client.query<{ pid: number }>("select pg_backend_pid() as pid")).rows).pid;
        const working = worker(100 + Math.floor(random() * 100), () => Promise.resolve(client), () => undefined).catch((error: unknown) => {
          // "admin_shutdown", or the connection that is no more.
          if (error instanceof DatabaseError && error.code !== "57P01") throw error;
        });
        const calls = 1 + Math.floor(random() * 4);
        for (let call = 0; call < calls; call += 1) await owner.query("select laurel_private.ticks_due_by(now(), 'hours', 1, 'UTC', now())");
        await owner.query("select pg_terminate_backend($1)", [pid]);
        counts.killed += 1;
        await working;
        await client.end().catch(() => undefined);
      }
    };
    /** Each call a transaction of its own; all of them on other users at the same time. */
    const actor = async (no: number): Promise<void> => {
      const random = randomFrom(seed + 20 + no);
      for (let turn = 0; turn < 80; turn += 1) {
        const user = users[Math.floor(random() * users.length)] ?? "";
        const what = random();
        if (what < 0.45) {
          await record(owner, { metric: metric.key, user });
          counts.events += 1;
        } else if (what < 0.65) {
          await record(owner, { metric: metric.key, user, value: 0 });
          await owner.query("select laurel.adjust_points($1, $2, $3, 'a test')", [random() < 0.5 ? free.key : capped.key, user, random() < 0.5 ? 4 : -9])
            .catch(unlessErased);
          counts.adjustments += 1;
        } else if (what < 0.85) {
          await owner.query("select laurel.identify_user($1, $2)", [user, JSON.stringify({
            tz: zones[Math.floor(random() * zones.length)], attributes: { plan: random() < 0.5 ? "free" : "pro" } })]);
          counts.profiles += 1;
        } else if (what < 0.95) {
          await switchTo(owner, toggled, turn % 2 === 0 ? "inactive" : "active");
          counts.switches += 1;
        } else {
          erased.add(user);
          await owner.query("select laurel.erase_user($1)", [user]).catch(unlessErased);
          counts.erasures += 1;
        }
      }
    };
    /** LR002: erased by another meanwhile. */
    const unlessErased = (error: unknown): void => {
      if (!(error instanceof DatabaseError && error.code === "LR002")) throw error;
    };

    const running = [pooled(1), pooled(2), mortal()];
    try {
      // Who is given the processor is the machine's affair: until enough were killed, and ticks applied.
      do await Promise.all([actor(1), actor(2), actor(3)]);
      while (counts.killed <= 3 || counts.ticks === 0);
    } finally {
      isOver = true;
    }
    await Promise.all(running);
    await switchTo(owner, toggled, "inactive");
    process.stdout.write(`concurrent ticks: ${JSON.stringify(counts)}\n`);

    // Down for 26 hours; then three catch up at once.
    const end = new Date(Date.now() + 26 * hour);
    const late = await Promise.all([1, 2, 3].map(async () => {
      for (let applied = 0, count = -1; ; applied += count) {
        count = await run(owner, end, 400);
        if (count === 0) return applied;
      }
    }));
    expect(late.reduce((sum, count) => sum + count)).toBeGreaterThan(users.length * 20);
    expect(await run(owner, end)).toBe(0);
    expect(await verify(owner)).toEqual([]);

    // Hours: every one from the later of activation and creation, of all users.
    const missing = await owner.query(
      `with due as (
         select u.id as user_id, t.id as trigger_id, greatest(p.activated_at, u.created_at) + k * p.time_interval * interval '1 hour' as at
         from laurel.points_triggers t
         join (
           select p.trigger_id, p.activated_at, p.time_interval, max(coalesce(p.ends_at, 'infinity')) as ends_at,
             max(p.applied_ahead) as applied_ahead
           from laurel_private.time_trigger_spans p group by 1, 2, 3) p on p.trigger_id = t.id
         cross join laurel.users u
         cross join lateral generate_series(1, 1000) k
         where t.id = any ($1) and greatest(p.activated_at, u.created_at) + k * p.time_interval * interval '1 hour' <= $2
           and greatest(p.activated_at, u.created_at) + k * p.time_interval * interval '1 hour' < p.ends_at),
       applied as (
         select a.user_id, a.trigger_id, a.occurred_at as at, count(*) as times, bool_or(a.occurred_at <= p.applied_ahead) as may_be_ahead
         from laurel.points_awards a
         left join (
           select p.trigger_id, max(p.applied_ahead) as applied_ahead
           from laurel_private.time_trigger_spans p group by 1) p on p.trigger_id = a.trigger_id
         where a.trigger_id = any ($1) group by 1, 2, 3)
       select coalesce(d.user_id, x.user_id) as user, coalesce(d.trigger_id, x.trigger_id) as trigger, coalesce(d.at, x.at) as at, x.times
       from due d full join applied x on (x.user_id, x.trigger_id, x.at) = (d.user_id, d.trigger_id, d.at)
       where x.times is null or x.times <> 1 or d.at is null and x.may_be_ahead is not true`,
      [[hourly.id, toggled.id], end],
    );
    expect(missing.rows).toEqual([]);

    for (const user of users) {
      // Days, by whichever time zones the user had: one after the other.
      const days = await ticksOf(user, daily);
      expect(days).toEqual(days.map((_, n) => n + 1));
      // A refill passes over the ticks at which the balance is full, and those at which the plan is another: never back, never twice.
      const refills = await ticksOf(user, refill);
      expect(refills).toEqual([...new Set(refills)].toSorted((a, b) => a - b));
    }
    // Whoever can be refilled is full after 26 hours.
    const pro = await owner.query<{ total: string }>(
      `select distinct coalesce(b.total, 0)::text as total from laurel.users u
       left join laurel.points_balances b on b.tenant_id = u.tenant_id and b.user_id = u.id and b.system_id = $1
       where u.attributes @> '{"plan": "pro"}'`,
      [capped.id],
    );
    expect(pro.rows).toEqual([{ total: String(cap) }]);
  }, 240_000);

  /** In the order applied. */
  const ticksOf = async (user: string, trigger: Trigger): Promise<number[]> =>
    (await owner.query<{ tick: number }>(
      "select tick::int from laurel.points_awards where user_id = $1 and trigger_id = $2 order by system_id, sequence",
      [user, trigger.id],
    )).rows.map(({ tick }) => tick);
});

describe("one against one", () => {
  let metric: Metric;
  let system: System;
  let trigger: Trigger;
  const [ada, bob] = ["ada", "bob"] as const;
  const since = new Date(Date.now() - 3.5 * hour);
  const now = (): Date => new Date();
  const ticks = async (user: string): Promise<number> => (await ledger(owner, user, system)).filter(({ trigger_id: id }) => id === trigger.id).length;

  beforeEach(async () => {
    await owner.query("delete from laurel.tenants where customer_id <> 'default'");
    await owner.query("update laurel.points_triggers set status = 'archived' where status <> 'archived'");
    for (const { id } of (await owner.query<{ id: string }>("select id from laurel.users")).rows) await owner.query("select laurel.erase_user($1)", [id]);
    metric = await aMetric(owner);
    system = await aSystem(owner);
    trigger = await aTrigger(owner, { system, type: "time", points: 1, time_unit: "hours", time_interval: 1 });
    for (const id of [ada, bob]) await owner.query("insert into laurel.users (id, created_at) values ($1, $2)", [id, since]);
    await setBack(trigger, since);
    await run(owner, new Date(0));
  });

  test("a user who is busy holds up nobody else's ticks, and gets the own ones next", async () => {
    const busy = await openTransaction(owner);
    await record(busy.client, { metric: metric.key, user: ada });
    expect(await run(owner, now(), 3)).toBe(3);
    expect([await ticks(ada), await ticks(bob)]).toEqual([0, 3]);
    await busy.end("commit");
    expect(await run(owner, now())).toBe(3);
    expect([await ticks(ada), await ticks(bob)]).toEqual([3, 3]);
  });

  test("when all are busy, a run waits for one and applies what is left", async () => {
    await run(owner, now(), 3);
    const left = (await ticks(ada)) === 0 ? ada : bob;
    const busy = await openTransaction(owner);
    await record(busy.client, { metric: metric.key, user: left });
    const { result } = await startAndBlock(owner, owner, (client) => run(client, now()));
    await busy.end("commit");
    expect(await result).toBe(3);
    expect([await ticks(ada), await ticks(bob)]).toEqual([3, 3]);
  });

  test.each(["commit", "rollback"] as const)("a deactivation that is not over (%s) leaves the trigger to the next run, which applies what was due before it", async (how) => {
    const change = await openTransaction(owner);
    await switchTo(change.client, trigger, "inactive");
    expect(await run(owner, now())).toBe(0);
    await change.end(how);
    expect(await run(owner, now())).toBe(6);
    expect(await run(owner, new Date(Date.now() + 2 * hour))).toBe(how === "commit" ? 0 : 4);
    expect(await verify(owner)).toEqual([]);
  });

  test("while a rule is being changed, a run waits for no user: whoever has the user may wait for whoever changes the rule", async () => {
    const other = await aTrigger(owner, { system, type: "time", points: 1, time_unit: "hours", time_interval: 1 });
    await run(owner, new Date(0));
    const change = await openTransaction(owner);
    await switchTo(change.client, other, "inactive");
    const busy = await openTransaction(owner);
    for (const user of [ada, bob]) await record(busy.client, { metric: metric.key, user });
    expect(await run(owner, now())).toBe(0);
    await busy.end("commit");
    expect(await run(owner, now())).toBe(6);
    await change.end("commit");
    expect(await verify(owner)).toEqual([]);
  });

  test("a run ahead of time that looks for clocks as well takes no rule before an older one that a profile holds", async () => {
    const change = (db: Database, user: string) => db.query("select laurel.identify_user($1, $2)", [user, JSON.stringify({ tz: "Asia/Kathmandu" })]);
    const profiles = await openTransaction(owner);
    await change(profiles.client, ada);
    await aTrigger(owner, { system, type: "time", points: 1, time_unit: "hours", time_interval: 1 });
    const { result } = await startAndBlock(owner, owner, (client) => run(client, new Date(Date.now() + hour)));
    await change(profiles.client, bob);
    await profiles.end("commit");
    // Those due are the profiles' own; one more hour of both triggers.
    expect(await result).toBe(4);
    expect([await ticks(ada), await ticks(bob)]).toEqual([4, 4]);
    expect(await verify(owner)).toEqual([]);
  });

  test("a deactivation waits for ticks that are being applied", async () => {
    const ticking = await openTransaction(owner);
    expect(await run(ticking.client, now())).toBe(6);
    const { result } = await startAndBlock(owner, owner, (client) => switchTo(client, trigger, "inactive"));
    await ticking.end("commit");
    await result;
    expect([await ticks(ada), await ticks(bob)]).toEqual([3, 3]);
    expect(await verify(owner)).toEqual([]);
  });

  test("ticks that are rolled back, as a killed worker's are, are applied by the next run", async () => {
    const dying = await openTransaction(owner);
    expect(await run(dying.client, now())).toBe(6);
    await dying.end("rollback");
    expect(await run(owner, now())).toBe(6);
    expect([await ticks(ada), await ticks(bob)]).toEqual([3, 3]);
  });

  test("of two runs ahead of time one waits for the other and finds nothing left", async () => {
    const ahead = new Date(Date.now() + 2 * hour);
    const one = await openTransaction(owner);
    expect(await run(one.client, ahead)).toBe(10);
    const { result } = await startAndBlock(owner, owner, (client) => run(client, ahead));
    await one.end("commit");
    expect(await result).toBe(0);
    expect(await verify(owner)).toEqual([]);
  });

  test("ticks applied ahead of time, in part, stay when the trigger is switched off before them", async () => {
    expect(await run(owner, new Date(Date.now() + 5 * hour), 12)).toBe(12);
    await switchTo(owner, trigger, "inactive");
    expect(await verify(owner)).toEqual([]);
  });

  test.each(["commit", "rollback"] as const)("a new trigger's look at all users waits for one who is being erased (%s)", async (how) => {
    await aTrigger(owner, { system, type: "time", points: 1, time_unit: "hours", time_interval: 1 });
    const erasing = await openTransaction(owner);
    await erasing.client.query("select laurel.erase_user($1)", [ada]);
    const { result } = await startAndBlock(owner, owner, (client) => run(client, now()));
    await erasing.end(how);
    expect(await result).toBe(how === "commit" ? 3 : 6);
    expect(await verify(owner)).toEqual([]);
  });

  test("an erasure waits for the user's ticks, and takes them along", async () => {
    const ticking = await openTransaction(owner);
    expect(await run(ticking.client, now())).toBe(6);
    const { result } = await startAndBlock(owner, owner, (client) => client.query("select laurel.erase_user($1)", [ada]));
    await ticking.end("commit");
    await result;
    expect(await ledger(owner, ada, system)).toEqual([]);
    expect(await run(owner, new Date(Date.now() + hour))).toBe(1);
    expect(await verify(owner)).toEqual([]);
  });
});
