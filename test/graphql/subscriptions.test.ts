import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Client, createClient } from "graphql-ws";
import WebSocket from "ws";
import { generateApiKey } from "../../src/api_keys.ts";
import { readConfig } from "../../src/config.ts";
import { createBalanceWatch, type WatchedBalance } from "../../src/graphql/balance_watch.ts";
import { type App, createApp } from "../../src/server.ts";
import { eventually, silentLogger } from "../support/database.ts";
import { createGraphqlSetting, type GraphqlSetting } from "../support/graphql.ts";

let setting: GraphqlSetting;
let app: App;
let server: Server;
let url: string;
const open: Client[] = [];
/** How much further the server's clock is than ours. */
let aheadMs = 0;

beforeAll(async () => {
  setting = await createGraphqlSetting();
  app = createApp({ config: readConfig({}), pools: setting.database.pools, logger: silentLogger, isDraining: () => false, watchIntervalMs: 5, now: () => performance.now() + aheadMs });
  server = createServer(app.listener);
  server.on("upgrade", app.upgrade);
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/graphql`;
  const { owner } = setting.database.pools;
  for (const tenant of ["default", "acme"]) {
    const client = await owner.connect();
    await client.query("select set_config('laurel.tenant', $1, false)", [tenant]);
    await client.query("insert into laurel.points_systems (key, name) values ('xp', 'XP')");
    await client.query("select laurel.identify_user('ann'), laurel.identify_user('bob')");
    client.release(true);
  }
});

afterAll(async () => {
  for (const client of open) await client.dispose();
  app.endStreams();
  await new Promise((resolve) => server.close(resolve));
  await app.release();
});

const adjust = (user: string, points: number, tenant = "default") =>
  setting.database.pools.owner.query(
    "select laurel.adjust_points('xp', $1, $2, 'Test') from (select set_config('laurel.tenant', $3, true) offset 0) t", [user, points, tenant]);

interface Watched {
  readonly values: string[];
  readonly outcome: { errors?: readonly { message: string }[]; closed?: unknown; completed?: boolean };
  stop: () => void;
}

/** Subscribes; collects "total" of xp for each value, "none" for no balance. */
function watch(secret: string, user: string, tenant?: string, query = "subscription ($user: String!) { userBalances(userId: $user) { systemKey total level } }"): Watched {
  const client = createClient({
    url, webSocketImpl: WebSocket, retryAttempts: 0, lazy: true,
    connectionParams: { "X-API-KEY": secret, ...(tenant === undefined ? {} : { "Tenant-ID": tenant }) },
  });
  open.push(client);
  const values: string[] = [];
  const outcome: { errors?: readonly { message: string }[]; closed?: unknown; completed?: boolean } = {};
  const stop = client.subscribe<{ userBalances: { systemKey: string; total: string }[] }>(
    { query, variables: { user } },
    {
      next: ({ data, errors }) => {
        if (errors !== undefined) outcome.errors = errors;
        if (data?.userBalances) values.push(data.userBalances.find(({ systemKey }) => systemKey === "xp")?.total ?? "none");
      },
      error: (error) => {
        if (Array.isArray(error)) outcome.errors = error as { message: string }[];
        else outcome.closed = error;
      },
      complete: () => {
        outcome.completed = true;
      },
    },
  );
  return { values, outcome, stop };
}

describe("userBalances", () => {
  test("shows the balances at once, then every change, to an admin key and to the user's own", async () => {
    const byAdmin = watch(setting.adminKey.secret, "ann");
    const byAnn = watch(setting.annsKey.secret, "ann");
    for (const { values } of [byAdmin, byAnn]) await eventually("the first state", () => Promise.resolve(values.length === 1));
    await adjust("ann", 5);
    for (const { values } of [byAdmin, byAnn]) await eventually("the change", () => Promise.resolve(values.at(-1) === "5"));
    await adjust("bob", 9);
    await adjust("ann", 2);
    for (const { values } of [byAdmin, byAnn]) {
      await eventually("the second change", () => Promise.resolve(values.at(-1) === "7"));
      expect(values).toEqual(["none", "5", "7"]);
    }
    byAdmin.stop();
    byAnn.stop();
  });

  test("keeps tenants apart", async () => {
    const here = watch(setting.adminKey.secret, "bob");
    const there = watch(setting.adminKey.secret, "bob", "acme");
    const bob = watch(setting.bobsKey.secret, "bob");
    await adjust("bob", 3, "acme");
    await eventually("acme's change", () => Promise.resolve(there.values.at(-1) === "3" && bob.values.at(-1) === "3"));
    expect(here.values).toEqual(["9"]);
    for (const one of [here, there, bob]) one.stop();
  });

  test("refuses another user to an application key, and another tenant", async () => {
    const other = watch(setting.annsKey.secret, "bob");
    await eventually("a refusal", () => Promise.resolve(other.outcome.errors !== undefined));
    expect(other.outcome.errors).toMatchObject([{ message: "This key may not do that: act for another user.", extensions: { code: "LR041" } }]);
    const elsewhere = watch(setting.annsKey.secret, "ann", "acme");
    await eventually("a refusal", () => Promise.resolve(elsewhere.outcome.closed !== undefined));
    expect(elsewhere.outcome.closed).toMatchObject({ code: 4403 });
    expect([...other.values, ...elsewhere.values]).toEqual([]);
  });

  test.each([["missing", ""], ["wrong", generateApiKey().secret]])("refuses a key that is %s", async (_what, secret) => {
    const refused = watch(secret, "ann");
    await eventually("a refusal", () => Promise.resolve(refused.outcome.closed !== undefined));
    expect(refused.outcome.closed).toMatchObject({ code: 4403, reason: expect.stringContaining("API key") });
  });

  test("ends when the key is revoked", async () => {
    const { owner } = setting.database.pools;
    const key = generateApiKey();
    await owner.query(
      `insert into laurel_private.api_keys (kind, prefix, key_sha256, tenant_id, user_id)
       select 'application', $1, $2, id, 'ann' from laurel.tenants where customer_id = 'default'`, [key.prefix, key.sha256]);
    const watched = watch(key.secret, "ann");
    await eventually("the first state", () => Promise.resolve(watched.values.length === 1));
    await owner.query("update laurel_private.api_keys set revoked_at = now() where prefix = $1", [key.prefix]);
    await eventually("the end", () => Promise.resolve(watched.outcome.errors !== undefined || watched.outcome.completed === true));
    const before = watched.values.length;
    await adjust("ann", 1);
    const other = watch(setting.adminKey.secret, "ann");
    await eventually("others to be told", () => Promise.resolve(other.values.length > 0));
    expect(watched.values).toHaveLength(before);
    other.stop();
  });

  test("of a user ID that PostgreSQL cannot hold is refused, and everybody else is told of changes", async () => {
    for (const user of ["a\0b", "\ud800"]) {
      const faulty = watch(setting.adminKey.secret, user);
      const sound = watch(setting.adminKey.secret, "bob");
      await eventually("a refusal", () => Promise.resolve(faulty.outcome.errors !== undefined));
      expect(faulty.outcome.errors).toMatchObject([{ message: expect.stringContaining("cannot be stored"), extensions: { code: "LR010" } }]);
      await eventually("the first state", () => Promise.resolve(sound.values.length === 1));
      sound.stop();
    }
    const nowhere = watch(setting.adminKey.secret, "ann", "a\0b");
    await eventually("a refusal", () => Promise.resolve(nowhere.outcome.errors !== undefined));
  });

  test("takes queries by the same limits, and introspection from nobody who may not", async () => {
    const deep = watch(setting.annsKey.secret, "ann", undefined, "{ __schema { types { name } } }");
    await eventually("a refusal", () => Promise.resolve(deep.outcome.errors !== undefined || deep.outcome.closed !== undefined));
    expect(JSON.stringify(deep.outcome)).toContain("Introspection is for admin keys.");
  });
});

describe("an open WebSocket", () => {
  const ask = async (client: Client, query: string): Promise<unknown> =>
    new Promise((resolve) => {
      let answer: unknown;
      client.subscribe({ query }, {
        next: (value) => {
          answer = value;
        },
        error: resolve,
        complete: () => {
          resolve(answer);
        },
      });
    });
  const connect = (secret: string, to = url): Client => {
    const client = createClient({ url: to, webSocketImpl: WebSocket, retryAttempts: 0, lazy: false, connectionParams: { "X-API-KEY": secret } });
    open.push(client);
    return client;
  };

  test("does nothing more for a key that was revoked, five seconds later", async () => {
    const { owner } = setting.database.pools;
    const key = generateApiKey();
    await owner.query(
      `insert into laurel_private.api_keys (kind, prefix, key_sha256, tenant_id, user_id)
       select 'application', $1, $2, id, 'ann' from laurel.tenants where customer_id = 'default'`, [key.prefix, key.sha256]);
    const client = connect(key.secret);
    const query = '{ user(id: "ann") { id } }';
    expect(await ask(client, query)).toMatchObject({ data: { user: { id: "ann" } } });
    await owner.query("update laurel_private.api_keys set revoked_at = now() where prefix = $1", [key.prefix]);
    aheadMs += 5_001;
    const refused = [{ message: "The API key is not valid.", extensions: { code: "LR040" } }];
    expect(await ask(client, query)).toMatchObject(refused);
    expect(await ask(client, 'mutation { updateUser(input: { userId: "ann", profile: { name: "Late" } }) { result } }')).toMatchObject(refused);
    expect((await owner.query("select from laurel.users where name = 'Late'")).rowCount).toBe(0);
  });

  test("counts each operation against the key's rate", async () => {
    const limited = createApp({ config: { ...readConfig({}), requestsPerMinute: 3 }, pools: setting.database.pools, logger: silentLogger, isDraining: () => false });
    const listening = createServer(limited.listener);
    listening.on("upgrade", limited.upgrade);
    await new Promise<void>((resolve) => {
      listening.listen(0, "127.0.0.1", resolve);
    });
    const client = connect(setting.adminKey.secret, `ws://127.0.0.1:${(listening.address() as AddressInfo).port}/graphql`);
    // Opening is one.
    for (let no = 0; no < 2; no += 1) expect(await ask(client, "{ __typename }")).toEqual({ data: { __typename: "Query" } });
    expect(await ask(client, "{ __typename }")).toMatchObject([
      { message: expect.stringMatching(/^At most 3 requests a minute/), extensions: { code: "TOO_MANY_REQUESTS" } },
    ]);
    await client.dispose();
    limited.endStreams();
    await new Promise((resolve) => listening.close(resolve));
    await limited.release();
  });
});

test("a subscription sent by POST is refused: it needs a WebSocket", async () => {
  const answer = await setting.ask('subscription { userBalances(userId: "ann") { total } }');
  expect(answer).toMatchObject({ status: 400, errors: [{ message: expect.stringContaining("WebSocket") }] });
});

test("a WebSocket elsewhere is refused", async () => {
  const socket = new WebSocket(url.replace("/graphql", "/v1/users"));
  const status = await new Promise((resolve) => {
    socket.on("unexpected-response", (_request, response) => {
      resolve(response.statusCode);
    });
    socket.on("error", () => undefined);
  });
  expect(status).toBe(404);
});

describe("the watch", () => {
  const watched = (userId: string, keyId: string) => ({ tenant: "", userId, keyId });
  const keyIdOf = async (prefix: string): Promise<string> =>
    (await setting.database.pools.owner.query<{ id: string }>("select id from laurel_private.api_keys where prefix = $1", [prefix])).rows[0]?.id ?? "";

  test("asks the database only while somebody watches, once for all", async () => {
    const { owner } = setting.database.pools;
    let asked = 0;
    const counting = { query: (...given: unknown[]) => { asked += 1; return (owner.query as (...all: unknown[]) => unknown)(...given); } } as unknown as typeof owner;
    const balances = createBalanceWatch({ pool: counting, logger: silentLogger, intervalMs: 1 });
    expect(asked).toBe(0);
    const keyId = await keyIdOf(setting.adminKey.prefix);
    const all = ["ann", "bob", "eve"].map((user) => balances.subscribe(watched(user, keyId)));
    const first = await Promise.all(all.map((one) => one.next()));
    expect(first.map(({ value }) => (value as WatchedBalance[]).length)).toEqual([1, 1, 0]);
    expect(asked).toBeLessThanOrEqual(3);
    for (const one of all) await one.return?.();
    const left = asked;
    await owner.query("select");
    await new Promise((resolve) => setImmediate(resolve));
    expect(asked).toBeLessThanOrEqual(left + 1);
    balances.stop();
  });

  test("takes so many per key and no more, and again when one is closed", async () => {
    const balances = createBalanceWatch({ pool: setting.database.pools.owner, logger: silentLogger, intervalMs: 1, mostPerKey: 2, mostPerProcess: 3 });
    const [admin, ann] = [await keyIdOf(setting.adminKey.prefix), await keyIdOf(setting.annsKey.prefix)];
    const one = balances.subscribe(watched("ann", admin));
    balances.subscribe(watched("ann", admin));
    expect(() => balances.subscribe(watched("ann", admin))).toThrow("Too many subscriptions");
    balances.subscribe(watched("ann", ann));
    expect(() => balances.subscribe(watched("ann", ann))).toThrow("Too many subscriptions");
    await one.return?.();
    balances.subscribe(watched("ann", ann));
    balances.stop();
  });

  test("ends everybody when it is stopped", async () => {
    const balances = createBalanceWatch({ pool: setting.database.pools.owner, logger: silentLogger, intervalMs: 1 });
    const one = balances.subscribe(watched("ann", await keyIdOf(setting.adminKey.prefix)));
    await one.next();
    const next = one.next();
    balances.stop();
    await expect(next).resolves.toEqual({ done: true, value: undefined });
  });
});
