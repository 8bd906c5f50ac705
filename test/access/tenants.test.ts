import { beforeAll, describe, expect, test } from "@jest/globals";
import type { DatabaseError } from "pg";
import type { DatabaseRole } from "../../src/postgres/pools.ts";
import { inTransaction } from "../../src/postgres/transactions.ts";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";

/** Two tenants, each with the same configuration (keys included) and two users of the same names. */
const tenants = ["red", "blue"] as const;
const users = ["ann", "bob"] as const;
const configuration = ["achievements", "attributes", "leaderboards", "metrics", "points_boosts", "points_levels", "points_systems", "points_triggers"];
const userData = ["leaderboard_entries", "metric_events", "points_awards", "points_balances", "points_trigger_counts", "user_metrics", "users"];

let database: TestDatabase;

/** Does `work` as a role of the server, in a tenant, perhaps for one user. */
const as = async <T>(
  role: DatabaseRole,
  settings: { readonly tenant?: string; readonly user?: string },
  work: (query: (text: string, values?: unknown[]) => Promise<Record<string, string>[]>) => Promise<T>,
): Promise<T> => {
  const pool = { laurel_admin: "admin", laurel_service: "service", laurel_user: "user" } as const;
  return inTransaction(
    database.pools[pool[role]],
    (client) => work(async (text, values) => (await client.query<Record<string, string>>(text, values)).rows),
    { settings: { "laurel.tenant": settings.tenant ?? "", "laurel.user_id": settings.user ?? "" } },
  );
};

const codeOf = async (attempt: Promise<unknown>): Promise<string | undefined> =>
  attempt.then(
    () => undefined,
    (error: unknown) => (error as DatabaseError).code,
  );

beforeAll(async () => {
  database = await cloneDatabase();
  const { owner } = database.pools;
  for (const tenant of tenants) {
    await owner.query("insert into laurel.tenants (customer_id, name) values ($1, $1)", [tenant]);
    await inTransaction(
      owner,
      async (client) => {
        await client.query(`
          insert into laurel.attributes (key, name, type) values ('plan', 'Plan', 'event');
          insert into laurel.metrics (key, name) values ('words', 'Words');
          insert into laurel.points_systems (key, name) values ('xp', 'XP');
          insert into laurel.achievements (key, name, kind, status) values ('done', 'Done', 'api', 'active');
          insert into laurel.leaderboards (key, name, rank_by, metric_id, status)
            select 'top', 'Top', 'metric', id, 'active' from laurel.metrics where tenant_id = laurel.current_tenant_id();
          insert into laurel.points_levels (system_id, key, name, points)
            select id, 'first', 'First', 1 from laurel.points_systems where tenant_id = laurel.current_tenant_id();
          insert into laurel.points_triggers (system_id, type, points, status, metric_id, metric_threshold, event_attributes)
            select s.id, 'metric', 1, 'active', m.id, 1, '{"plan": "pro"}' from laurel.points_systems s
            join laurel.metrics m using (tenant_id) where s.tenant_id = laurel.current_tenant_id()`);
        for (const user of users) {
          await client.query(`select laurel.record_event('words', $1, 3, '{"plan": "pro"}')`, [user]);
        }
        // One boost for everybody, one for ann alone.
        await client.query(`
          insert into laurel.points_boosts (system_id, name, multiplier, starts_on, user_id)
            select s.id, coalesce(u.id, 'all'), 2, date '2020-01-01', u.id from laurel.points_systems s
            cross join (values (null), ('ann')) u (id) where s.tenant_id = laurel.current_tenant_id()`);
      },
      { settings: { "laurel.tenant": tenant } },
    );
  }
});

describe("what a tenant's rows are seen by", () => {
  test.each([...configuration, ...userData])("%s: administrators and services see their own tenant's, all of them", async (table) => {
    const mine = await database.pools.owner.query<{ count: string }>(
      `select count(*) from laurel.${table} where tenant_id = (select id from laurel.tenants where customer_id = 'red')`,
    );
    expect(Number(mine.rows[0]?.count)).toBeGreaterThan(0);
    for (const role of ["laurel_admin", "laurel_service"] as const) {
      const seen = await as(role, { tenant: "red" }, (query) =>
        query(`select count(*), count(*) filter (where tenant_id <> laurel.current_tenant_id()) as others from laurel.${table}`),
      );
      expect(seen).toEqual([{ count: mine.rows[0]?.count, others: "0" }]);
    }
  });

  test.each(userData)("%s: a user sees its own, in its own tenant", async (table) => {
    const column = table === "users" ? "id" : "user_id";
    const seen = await as("laurel_user", { tenant: "red", user: "ann" }, (query) =>
      query(`select distinct ${column} as user_id, tenant_id = laurel.current_tenant_id() as mine from laurel.${table}`),
    );
    expect(seen).toEqual([{ user_id: "ann", mine: true }]);
  });

  test.each(userData)("%s: a session that names no user sees nothing", async (table) => {
    const seen = await as("laurel_user", { tenant: "red" }, (query) => query(`select from laurel.${table}`));
    expect(seen).toEqual([]);
  });

  test.each(configuration)("%s: a user sees its tenant's alone", async (table) => {
    const seen = await as("laurel_user", { tenant: "red", user: "ann" }, (query) =>
      query(`select distinct tenant_id = laurel.current_tenant_id() as mine from laurel.${table}`),
    );
    expect(seen).toEqual([{ mine: true }]);
  });

  test("another user's boost is nobody's business", async () => {
    const boostsOf = async (user: string): Promise<string[]> =>
      (await as("laurel_user", { tenant: "red", user }, (query) => query("select name from laurel.points_boosts order by 1"))).map(
        ({ name }) => name ?? "",
      );
    expect(await boostsOf("ann")).toEqual(["all", "ann"]);
    expect(await boostsOf("bob")).toEqual(["all"]);
  });

  test("drafts and what was archived are no user's business", async () => {
    await as("laurel_admin", { tenant: "blue" }, (query) =>
      query(`
        insert into laurel.metrics (key, name) values ('old', 'Old');
        insert into laurel.points_systems (key, name) values ('old', 'Old');
        update laurel.metrics set archived_at = now() where key = 'old';
        insert into laurel.points_triggers (system_id, type, points)
          select id, 'user_creation', 9 from laurel.points_systems where key = 'xp';
        insert into laurel.points_boosts (system_id, name, multiplier, starts_on, is_active)
          select id, 'draft', 2, '2020-01-01', false from laurel.points_systems where key = 'xp';
        update laurel.points_systems set archived_at = now() where key = 'old'`),
    );
    const read = `
      select (select count(*) from laurel.metrics) as metrics, (select count(*) from laurel.points_systems) as systems,
        (select count(*) from laurel.points_triggers) as triggers, (select count(*) from laurel.points_boosts) as boosts`;
    expect(await as("laurel_service", { tenant: "blue" }, (query) => query(read))).toEqual([
      { metrics: "2", systems: "2", triggers: "2", boosts: "3" },
    ]);
    // bob's: the boost of ann is not shown either.
    expect(await as("laurel_user", { tenant: "blue", user: "bob" }, (query) => query(read))).toEqual([
      { metrics: "1", systems: "1", triggers: "1", boosts: "1" },
    ]);
  });

  test.each(["laurel_admin", "laurel_service", "laurel_user"] as const)("tenants: %s sees its own", async (role) => {
    const seen = await as(role, { tenant: "blue" }, (query) => query("select customer_id from laurel.tenants"));
    expect(seen).toEqual([{ customer_id: "blue" }]);
  });

  test.each(["laurel_admin", "laurel_service", "laurel_user"] as const)("%s cannot act in a tenant that does not exist", async (role) => {
    expect(await codeOf(as(role, { tenant: "green", user: "ann" }, (query) => query("select from laurel.users")))).toBe("LR001");
  });
});

describe("what an administrator writes", () => {
  test.each(["attributes", "metrics", "points_boosts", "points_levels", "points_systems"])(
    "%s: an update without a condition reaches its own tenant alone",
    async (table) => {
      const changed = await as("laurel_admin", { tenant: "red" }, (query) =>
        query(`update laurel.${table} set name = 'Changed' returning tenant_id = laurel.current_tenant_id() as mine`),
      );
      expect(new Set(changed.map(({ mine }) => mine))).toEqual(new Set([true]));
      const others = await database.pools.owner.query(
        `select from laurel.${table} where name = 'Changed' and tenant_id <> (select id from laurel.tenants where customer_id = 'red')`,
      );
      expect(others.rowCount).toBe(0);
    },
  );

  test("a delete of everything leaves the other tenant's", async () => {
    await as("laurel_admin", { tenant: "red" }, async (query) => {
      await query("delete from laurel.points_levels");
      expect(await query("select from laurel.points_levels")).toEqual([]);
      await query("select set_config('laurel.tenant', 'blue', true)");
      expect(await query("select key from laurel.points_levels")).toEqual([{ key: "first" }]);
    });
  });

  test("a new row is its own tenant's, and may not name another", async () => {
    const made = await as("laurel_admin", { tenant: "blue" }, (query) =>
      query("insert into laurel.metrics (key, name) values ('new', 'New') returning tenant_id = laurel.current_tenant_id() as mine"),
    );
    expect(made).toEqual([{ mine: true }]);
    const attempt = as("laurel_admin", { tenant: "blue" }, (query) =>
      query("insert into laurel.metrics (tenant_id, key, name) select id, 'x', 'X' from laurel.tenants"),
    );
    expect(await codeOf(attempt)).toBe("42501");
  });

  test("a level cannot belong to another tenant's system", async () => {
    const found = await database.pools.owner.query<{ id: string }>(
      "select s.id from laurel.points_systems s join laurel.tenants t on t.id = s.tenant_id where t.customer_id = 'red'",
    );
    const attempt = as("laurel_admin", { tenant: "blue" }, (query) =>
      query("insert into laurel.points_levels (system_id, key, name, points) values ($1, 'x', 'X', 9)", [found.rows[0]?.id]),
    );
    expect(await codeOf(attempt)).toBe("23503");
  });
});

describe("events", () => {
  test.each(["laurel_admin", "laurel_service"] as const)("of %s go to its own tenant, and may not name another", async (role) => {
    await as(role, { tenant: "blue" }, (query) =>
      query("insert into laurel.metric_events (metric_key, user_id, value) values ('words', $1, 1)", [role]),
    );
    const stored = await database.pools.owner.query(
      "select t.customer_id from laurel.metric_events e join laurel.tenants t on t.id = e.tenant_id where e.user_id = $1",
      [role],
    );
    expect(stored.rows).toEqual([{ customer_id: "blue" }]);
    const attempt = as(role, { tenant: "blue" }, (query) =>
      query("insert into laurel.metric_events (tenant_id, metric_key, user_id) select id, 'words', 'x' from laurel.tenants"),
    );
    expect(await codeOf(attempt)).toBe("42501");
  });

  test("are not inserted by users, who have a function for their own", async () => {
    const insert = as("laurel_user", { tenant: "red", user: "ann" }, (query) =>
      query("insert into laurel.metric_events (metric_key, user_id) values ('words', 'ann')"),
    );
    expect(await codeOf(insert)).toBe("42501");
    await as("laurel_user", { tenant: "red", user: "ann" }, (query) => query("select laurel.record_event('words', 'ann')"));
  });
});

describe("functions", () => {
  test.each([
    "laurel.record_event('words', 'bob')",
    "laurel.identify_user('bob')",
    `laurel.update_user('bob', '{"name": "Mallory"}')`,
    "laurel.user_profile('bob')",
    "laurel.user_points('xp', 'bob')",
    "laurel.balance_as_of('xp', 'bob', now())",
  ])("%s is forbidden to another user, and to a session that names none", async (call) => {
    for (const settings of [{ tenant: "red", user: "ann" }, { tenant: "red" }]) {
      expect(await codeOf(as("laurel_user", settings, (query) => query(`select ${call}`)))).toBe("LR041");
    }
  });

  test.each(["laurel.adjust_points('xp', 'ann', 5, 'mine')", "laurel.verify()"])("%s is forbidden to users", async (call) => {
    expect(await codeOf(as("laurel_user", { tenant: "red", user: "ann" }, (query) => query(`select ${call}`)))).toBe("42501");
  });

  test("explain no award of another user or tenant", async () => {
    const found = await database.pools.owner.query<{ id: string }>(
      `select a.id from laurel.points_awards a join laurel.tenants t on t.id = a.tenant_id
       where t.customer_id = 'red' and a.user_id = 'bob'`,
    );
    const explain = (role: DatabaseRole, settings: { tenant: string; user?: string }): Promise<string | undefined> =>
      codeOf(as(role, settings, (query) => query("select laurel.explain_award($1)", [found.rows[0]?.id])));
    expect(await explain("laurel_user", { tenant: "red", user: "bob" })).toBeUndefined();
    expect(await explain("laurel_user", { tenant: "red", user: "ann" })).toBe("LR005");
    expect(await explain("laurel_user", { tenant: "red" })).toBe("LR005");
    expect(await explain("laurel_user", { tenant: "blue", user: "bob" })).toBe("LR005");
    expect(await explain("laurel_service", { tenant: "blue" })).toBe("LR005");
  });

  test("know no user and no balance of another tenant", async () => {
    await as("laurel_service", { tenant: "red" }, (query) => query("select laurel.identify_user('only-red')"));
    for (const call of ["laurel.user_profile('only-red')", "laurel.user_points('xp', 'only-red')", "laurel.adjust_points('xp', 'only-red', 1, 'x')"]) {
      expect(await codeOf(as("laurel_service", { tenant: "blue" }, (query) => query(`select ${call}`)))).toBe("LR002");
    }
  });
});

describe("the private schema", () => {
  test.each(["laurel_admin", "laurel_service", "laurel_user"] as const)("keeps its secrets from %s", async (role) => {
    for (const table of ["api_keys", "idempotency_keys", "points_rules", "metric_event_log", "points_awards_default"]) {
      expect(await codeOf(as(role, { tenant: "red", user: "ann" }, (query) => query(`select from laurel_private.${table}`)))).toBe("42501");
    }
  });

  test("lets nobody past row-level security by its rows' own table", async () => {
    const seen = await as("laurel_admin", { tenant: "red" }, (query) =>
      query("select distinct tenant_id = laurel.current_tenant_id() as mine from laurel_private.user_states"),
    );
    expect(seen).toEqual([{ mine: true }]);
  });
});
