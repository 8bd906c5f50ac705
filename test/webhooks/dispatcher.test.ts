import { createHmac } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { Webhook } from "standardwebhooks";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";
import { record, verify } from "../support/engine.ts";
import { aMetric, aSystem, aTrigger, type Database } from "../support/factories.ts";
import { aClock, aDispatcher, aReceivingEndpoint, attempts, deliveries, testBox, testSecret, writeMessages } from "../support/dispatch.ts";
import { httpReceiver, type Receiver } from "../support/faulty_receivers.ts";
import { openTransaction, startAndBlock } from "../support/races.ts";
import type { Endpoint } from "../support/webhooks.ts";

/** Rules H1 and H2: what dispatchers do, with receivers on loopback and a clock of the test's own. */

let database: TestDatabase;
const open: Receiver[] = [];

beforeAll(async () => {
  database = await cloneDatabase();
});

beforeEach(async () => {
  await database.pools.owner.query("delete from laurel.webhook_endpoints");
});

afterEach(async () => {
  for (const receiver of open.splice(0)) await receiver.close();
});

interface Got { readonly headers: IncomingHttpHeaders; readonly body: string; readonly user: string; readonly n: number }

/** A receiver that keeps what it gets, and answers with the status that `status` gives. */
async function keeper(status: (got: Got) => number = () => 200): Promise<Receiver & { got: Got[] }> {
  const got: Got[] = [];
  const bodies = new WeakMap<object, string>();
  const receiver = await httpReceiver((request, response) => {
    const body = bodies.get(request) ?? "";
    const { user, n } = JSON.parse(body) as { user: string; n: number };
    const one = { headers: request.headers, body, user, n };
    got.push(one);
    response.writeHead(status(one)).end("noted");
  }, { onRequest: (request) => {
    let body = "";
    request.setEncoding("utf8").on("data", (chunk: string) => { body += chunk; }).on("end", () => bodies.set(request, body));
  } });
  open.push(receiver);
  return { ...receiver, got };
}

describe("what is sent", () => {
  test("is the payload byte for byte, signed so that the library of the standard accepts it, and as the reference does", async () => {
    const receiver = await keeper();
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const endpoint = await aReceivingEndpoint(database, receiver.url);
    await writeMessages(database, ["ada"]);
    expect(await dispatcher.runOnce()).toBe(1);
    const [got] = receiver.got;
    const [delivery] = await deliveries(database, endpoint);
    expect(got?.headers).toMatchObject({
      "content-type": "application/json",
      "webhook-id": delivery?.message_id,
      "webhook-timestamp": String(Math.floor(clock.now().getTime() / 1000)),
      "x-trophy-signature": createHmac("sha256", testSecret).update(got?.body ?? "").digest("base64"),
    });
    const library = new Webhook(testSecret);
    const signed = (at: Date): string => library.sign(delivery?.message_id ?? "", at, got?.body ?? "");
    expect(got?.headers["webhook-signature"]).toBe(signed(clock.now()));
    // Its own check looks at the real clock: the same with a message sent now.
    const now = aDispatcher(database, { now: () => new Date(), advance: () => undefined });
    await writeMessages(database, ["bob"]);
    await now.runOnce();
    const second = receiver.got[1];
    expect(library.verify(second?.body ?? "", second?.headers as Record<string, string>)).toMatchObject({ user: "bob" });
    expect(() => library.verify(`${second?.body ?? ""} `, second?.headers as Record<string, string>)).toThrow("No matching signature");
    const stored = await database.pools.owner.query<{ payload: string }>(
      "select payload::text from laurel.webhook_messages where id = $1", [delivery?.message_id]);
    expect(got?.body).toBe(stored.rows[0]?.payload);
    await dispatcher.stop();
    await now.stop();
  });

  test("is signed with both secrets while a rotation overlaps, and with the new one alone afterwards", async () => {
    const receiver = await keeper(() => 401);
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const endpoint = await aReceivingEndpoint(database, receiver.url);
    const newSecret = `whsec_${Buffer.from("another secret of 32 bytes......").toString("base64")}`;
    // The overlap is counted from the real clock; the test's is an hour ahead.
    await database.pools.owner.query("select laurel_private.replace_webhook_secret($1, $2, '2 hours')", [endpoint.id, testBox.seal(newSecret)]);
    await writeMessages(database, ["ada"]);
    await dispatcher.runOnce();
    clock.advance(6);
    await dispatcher.runOnce();
    clock.advance(3600);
    await dispatcher.runOnce();
    const [first, second, third] = receiver.got;
    const hmac = (secret: string): string => createHmac("sha256", secret).update(first?.body ?? "").digest("base64");
    expect([first, second, third].map((got) => got?.headers["x-trophy-signature"])).toEqual([hmac(newSecret), hmac(testSecret), hmac(newSecret)]);
    for (const got of [first, second]) {
      for (const secret of [newSecret, testSecret]) {
        const at = new Date(Number(got?.headers["webhook-timestamp"]) * 1000);
        expect(String(got?.headers["webhook-signature"]).split(" ")).toContain(new Webhook(secret).sign(String(got?.headers["webhook-id"]), at, got?.body ?? ""));
      }
    }
    expect(String(third?.headers["webhook-signature"]).split(" ")).toHaveLength(1);
    await dispatcher.stop();
  });

  test("from an endpoint made in SQL is signed too, and a secret sealed with a lost key is said to be so", async () => {
    const receiver = await keeper();
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const endpoint = await aReceivingEndpoint(database, receiver.url);
    await database.pools.owner.query("delete from laurel_private.webhook_secrets");
    await writeMessages(database, ["ada"]);
    await dispatcher.runOnce();
    const found = await database.pools.owner.query<{ sealed: Buffer }>("select sealed from laurel_private.webhook_secrets where endpoint_id = $1", [endpoint.id]);
    const made = testBox.open(found.rows[0]?.sealed ?? Buffer.alloc(0));
    expect(receiver.got[0]?.headers["x-trophy-signature"]).toBe(createHmac("sha256", made).update(receiver.got[0]?.body ?? "").digest("base64"));
    await database.pools.owner.query("update laurel_private.webhook_secrets set sealed = sealed || '\\x00'");
    await writeMessages(database, ["bob"]);
    await dispatcher.runOnce();
    expect(receiver.got).toHaveLength(1);
    expect((await deliveries(database, endpoint))[1]).toMatchObject({ status: "pending", last_error: expect.stringContaining("LAUREL_SECRET_KEY") as unknown });
    await dispatcher.stop();
  });
});

describe("the schedule", () => {
  test("is 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, then the message is parked, with every attempt in the log", async () => {
    const receiver = await keeper(() => 500);
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const endpoint = await aReceivingEndpoint(database, receiver.url);
    await writeMessages(database, ["ada"]);
    await dispatcher.runOnce();
    const pauses = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400];
    for (const seconds of pauses) {
      const [before] = await deliveries(database, endpoint);
      // Milliseconds that the request itself took come on top.
      const left = ((before?.next_attempt_at?.getTime() ?? 0) - clock.now().getTime()) / 1000;
      expect(left).toBeGreaterThanOrEqual(seconds);
      expect(left).toBeLessThan(seconds + 10);
      clock.advance(seconds - 1);
      expect(await dispatcher.runOnce()).toBe(0);
      clock.advance(11);
      expect(await dispatcher.runOnce()).toBe(1);
    }
    const [after] = await deliveries(database, endpoint);
    expect(after).toMatchObject({ status: "parked", failed_attempts: 8, last_status: 500, next_attempt_at: null });
    expect((await attempts(database, endpoint)).map(({ status, response }) => `${String(status)} ${String(response)}`)).toEqual(Array(8).fill("500 noted"));
    await dispatcher.stop();
  });

  test("is lengthened by chance, by up to a fifth", async () => {
    const found = await database.pools.owner.query<{ pauses: number[] }>(
      `select array(select extract(epoch from laurel_private.webhook_pause(2, j))::int from unnest('{0,0.5,1}'::float8[]) j) as pauses`);
    expect(found.rows[0]?.pauses).toEqual([300, 330, 360]);
  });

  test("waits as long as Retry-After asks, when that is longer", async () => {
    const receiver = await httpReceiver((_request, response) => response.writeHead(503, { "retry-after": "7200" }).end());
    open.push(receiver);
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const endpoint = await aReceivingEndpoint(database, receiver.url);
    await writeMessages(database, ["ada"]);
    await dispatcher.runOnce();
    clock.advance(7_199);
    expect(await dispatcher.runOnce()).toBe(0);
    clock.advance(11);
    expect(await dispatcher.runOnce()).toBe(1);
    expect(await deliveries(database, endpoint)).toMatchObject([{ failed_attempts: 2 }]);
    await dispatcher.stop();
  });

  test("ends with 410: the endpoint is inactive and says why, what waits is parked, and nothing more is written", async () => {
    const receiver = await keeper(({ n }) => (n === 2 ? 410 : 500));
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const endpoint = await aReceivingEndpoint(database, receiver.url);
    await writeMessages(database, ["ada", "bob"], 2);
    await dispatcher.runOnce();
    const found = await database.pools.owner.query("select is_active, disabled_at, disabled_reason from laurel.webhook_endpoints where id = $1", [endpoint.id]);
    expect(found.rows).toEqual([{ is_active: false, disabled_at: clock.now(), disabled_reason: "It answered 410: gone for good." }]);
    expect((await deliveries(database, endpoint)).map(({ status }) => status)).toEqual(["parked", "parked", "parked", "parked"]);
    await writeMessages(database, ["ada"]);
    expect(await deliveries(database, endpoint)).toHaveLength(4);
    const audit = await database.pools.owner.query("select actor, after ->> 'disabled_reason' as reason from laurel.audit_entries where object_id = $1 order by id desc limit 1", [endpoint.id]);
    expect(audit.rows).toEqual([{ actor: "key:webhooks", reason: "It answered 410: gone for good." }]);
    await database.pools.owner.query("update laurel.webhook_endpoints set is_active = true where id = $1", [endpoint.id]);
    expect((await database.pools.owner.query("select disabled_at from laurel.webhook_endpoints where id = $1", [endpoint.id])).rows).toEqual([{ disabled_at: null }]);
    await dispatcher.stop();
  });
});

describe("order", () => {
  test("is kept per user, whatever comes at once, and a retry holds up nobody", async () => {
    const receiver = await keeper(({ user, n }) => (user === "bob" && n === 1 ? 500 : 200));
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    await aReceivingEndpoint(database, receiver.url);
    await writeMessages(database, ["ada", "bob", "eve"], 20);
    await dispatcher.runOnce();
    const of = (user: string): number[] => receiver.got.filter((got) => got.user === user).map(({ n }) => n);
    const inOrder = Array.from({ length: 20 }, (_, no) => no + 1);
    expect(of("ada")).toEqual(inOrder);
    expect(of("eve")).toEqual(inOrder);
    expect(of("bob")).toEqual(inOrder);
    clock.advance(6);
    await dispatcher.runOnce();
    expect(of("bob")).toEqual([...inOrder, 1]);
    await dispatcher.stop();
  });

  test("one that hangs delays no other: it has its share of requests at once, and no more", async () => {
    let atOnce = 0;
    let most = 0;
    const hanging = await httpReceiver((_request, response) => {
      atOnce += 1;
      most = Math.max(most, atOnce);
      response.on("close", () => { atOnce -= 1; });
    });
    const healthy = await keeper();
    open.push(hanging);
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock, { timeoutMs: 2_000 });
    await aReceivingEndpoint(database, hanging.url, { maxConcurrency: 3 });
    await aReceivingEndpoint(database, healthy.url, { maxConcurrency: 5 });
    await writeMessages(database, Array.from({ length: 30 }, (_, no) => `user ${no}`));
    dispatcher.start();
    const start = performance.now();
    while (healthy.got.length < 30 && performance.now() - start < 20_000) await new Promise((resolve) => setImmediate(resolve));
    expect(healthy.got).toHaveLength(30);
    expect(most).toBe(3);
    await dispatcher.stop();
  });
});

describe("several dispatchers", () => {
  test("share the work: each message comes once", async () => {
    const receiver = await keeper();
    const clock = aClock();
    const dispatchers = [1, 2, 3].map(() => aDispatcher(database, clock));
    const endpoint = await aReceivingEndpoint(database, receiver.url, { maxConcurrency: 8 });
    await writeMessages(database, Array.from({ length: 40 }, (_, no) => `user ${no}`), 3);
    for (;;) {
      const made = await Promise.all(dispatchers.map((dispatcher) => dispatcher.runOnce()));
      if (made.every((count) => count === 0)) break;
    }
    expect([...receiver.received.values()]).toEqual(Array(120).fill(1));
    expect((await deliveries(database, endpoint)).every(({ status }) => status === "delivered")).toBe(true);
    expect((await database.pools.owner.query("select from laurel_private.webhook_leases")).rowCount).toBe(0);
    for (const dispatcher of dispatchers) await dispatcher.stop();
  });

  test("one that was killed loses what it had taken after a minute; its late report changes no success", async () => {
    const receiver = await keeper();
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const endpoint = await aReceivingEndpoint(database, receiver.url, { maxConcurrency: 2 });
    await writeMessages(database, ["ada", "bob"]);
    const taken = await database.pools.owner.query<{ message_id: string; tenant_id: string; token: string }>(
      "select * from laurel_private.claim_webhook_deliveries($1, 10)", [clock.now()]);
    expect(taken.rows).toHaveLength(2);
    expect(await dispatcher.runOnce()).toBe(0);
    clock.advance(59);
    expect(await dispatcher.runOnce()).toBe(0);
    clock.advance(2);
    expect(await dispatcher.runOnce()).toBe(2);
    const late = taken.rows.map(({ message_id, tenant_id, token }) => ({
      tenantId: tenant_id, messageId: message_id, endpointId: endpoint.id, token, at: clock.now(), latencyMs: 1, error: "reset", jitter: 0,
    }));
    await database.pools.owner.query("select laurel_private.finish_webhook_deliveries($1)", [JSON.stringify(late)]);
    expect((await deliveries(database, endpoint)).map(({ status }) => status)).toEqual(["delivered", "delivered"]);
    expect(await attempts(database, endpoint)).toHaveLength(4);
    await dispatcher.stop();
  });
});

describe("replay", () => {
  test("of one message, of an endpoint's parked ones, and of a range of time", async () => {
    const receiver = await keeper(({ user }) => (user === "bad" ? 500 : 200));
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const endpoint = await aReceivingEndpoint(database, receiver.url);
    await writeMessages(database, ["good", "bad"]);
    await dispatcher.runOnce();
    for (let n = 0; n < 8; n += 1) {
      clock.advance(60_000);
      await dispatcher.runOnce();
    }
    expect((await deliveries(database, endpoint)).map(({ status }) => status).sort()).toEqual(["delivered", "parked"]);
    const replayed = async (call: string, values: unknown[]): Promise<unknown> =>
      (await database.pools.owner.query<{ count: number }>(`select laurel.${call} as count`, values)).rows[0]?.count;
    expect(await replayed("replay_webhook_endpoint($1)", [endpoint.id])).toBe(1);
    expect(await dispatcher.runOnce()).toBe(1);
    expect(await replayed("replay_webhook_endpoint($1, only_parked => false)", [endpoint.id])).toBe(2);
    expect(await dispatcher.runOnce()).toBe(2);
    const [message] = await deliveries(database, endpoint);
    expect(await replayed("replay_webhook_message($1)", [message?.message_id])).toBe(1);
    await dispatcher.runOnce();
    // Under the same ID: receivers know it again.
    expect(receiver.received.size).toBe(2);
    expect(await replayed("replay_webhook_endpoint($1, since => now() + interval '1 minute', only_parked => false)", [endpoint.id])).toBe(0);
    expect(await replayed("replay_webhook_endpoint($1, since => now() - interval '1 hour', until => now() + interval '1 minute', only_parked => false)", [endpoint.id])).toBe(2);
    await expect(replayed("replay_webhook_message($1)", [endpoint.id])).rejects.toMatchObject({ code: "LR006" });
    await dispatcher.stop();
  });
});

describe("replay to an inactive endpoint", () => {
  test("is refused: it would wait unseen; of several endpoints the active ones are sent to", async () => {
    const { owner } = database.pools;
    const [one, two] = [await keeper(), await keeper()];
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const [left, kept] = [await aReceivingEndpoint(database, one.url), await aReceivingEndpoint(database, two.url)];
    await writeMessages(database, ["ada"]);
    expect(await dispatcher.runOnce()).toBe(2);
    const [message] = await deliveries(database, left);
    const deactivate = (endpoint: Endpoint) => owner.query("update laurel.webhook_endpoints set is_active = false where id = $1", [endpoint.id]);
    const replayed = async (call: string, values: unknown[]): Promise<unknown> =>
      (await owner.query<{ count: number }>(`select laurel.${call} as count`, values)).rows[0]?.count;
    const refused = { code: "LR020", message: "The webhook is not active; activate it first." };

    await deactivate(left);
    await expect(replayed("replay_webhook_endpoint($1, only_parked => false)", [left.id])).rejects.toMatchObject(refused);
    await expect(replayed("replay_webhook_message($1, $2)", [message?.message_id, left.id])).rejects.toMatchObject(refused);
    expect((await deliveries(database, left)).map(({ status }) => status)).toEqual(["delivered"]);
    expect(await replayed("replay_webhook_message($1)", [message?.message_id])).toBe(1);
    expect(await dispatcher.runOnce()).toBe(1);
    expect([one.got.length, two.got.length]).toEqual([1, 2]);
    await deactivate(kept);
    await expect(replayed("replay_webhook_message($1)", [message?.message_id])).rejects.toMatchObject(refused);
    await owner.query("update laurel.webhook_endpoints set is_active = true where id = $1", [left.id]);
    expect(await replayed("replay_webhook_endpoint($1, only_parked => false)", [left.id])).toBe(1);
    expect(await dispatcher.runOnce()).toBe(1);
    await dispatcher.stop();
  });

  test.each(["replay", "410"])("when both come at once, the %s first: nothing is left to wait", async (first) => {
    const { owner } = database.pools;
    const receiver = await keeper();
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const endpoint = await aReceivingEndpoint(database, receiver.url);
    await writeMessages(database, ["ada"]);
    await dispatcher.runOnce();
    const replay = (db: Database) => db.query("select laurel.replay_webhook_endpoint($1, only_parked => false)", [endpoint.id]);
    const disable = (db: Database) =>
      db.query("select laurel_private.disable_webhook_endpoint(laurel.current_tenant_id(), $1, 'Gone', now())", [endpoint.id]);
    const holder = await openTransaction(owner);
    await (first === "replay" ? replay : disable)(holder.client);
    const { result } = await startAndBlock(owner, owner, first === "replay" ? disable : replay);
    await holder.end("commit");
    if (first === "replay") await result;
    else await expect(result).rejects.toMatchObject({ code: "LR020" });
    expect((await deliveries(database, endpoint)).map(({ status }) => status)).toEqual([first === "replay" ? "parked" : "delivered"]);
    await dispatcher.stop();
  });
});

describe("what is kept", () => {
  test("goes with the user, and after 30 days; what is still to be delivered stays", async () => {
    const { owner } = database.pools;
    const metric = await aMetric(owner, { key: "kept" });
    const system = await aSystem(owner, { key: "kept" });
    await aTrigger(owner, { system, metric });
    const receiver = await keeper();
    const clock = aClock();
    const dispatcher = aDispatcher(database, clock);
    const endpoint = await aReceivingEndpoint(database, receiver.url);
    for (const user of ["kim", "lee"]) await record(owner, { metric: "kept", user });
    await owner.query(`select laurel_private.write_messages(laurel.current_tenant_id(), array[(null, 'points.changed',
      '{"type": "points.changed", "leaderboard": {"rankings": [{"userId": "kim", "rank": 1}, {"userId": "lee", "rank": 2}]}}')::laurel_private.outgoing_message])`);
    await dispatcher.runOnce();
    const exported = await owner.query<{ found: { webhookMessages: { attempts: unknown[] }[] } }>("select laurel.export_user('kim') as found");
    expect(exported.rows[0]?.found.webhookMessages).toMatchObject([{ type: "points.changed", attempts: [{ status: 200, response: "noted" }] }]);
    await owner.query("select laurel.erase_user('kim')");
    const texts = await owner.query<{ text: string }>("select payload::text as text from laurel.webhook_messages");
    expect(texts.rows.filter(({ text }) => text.includes("kim"))).toEqual([]);
    expect(texts.rows.filter(({ text }) => text.includes("lee")).length).toBeGreaterThan(1);
    expect(await verify(owner)).toEqual([]);

    await owner.query("update laurel.webhook_endpoints set is_active = true");
    await record(owner, { metric: "kept", user: "new" });
    const waiting = (await deliveries(database, endpoint)).filter(({ status }) => status === "pending");
    expect(waiting).toHaveLength(1);
    const removed = async (days: number): Promise<unknown> =>
      (await owner.query<{ count: number }>("select laurel_private.remove_old_webhook_messages(now() + make_interval(days => $1)) as count", [days])).rows[0]?.count;
    expect(await removed(29)).toBe(0);
    expect(await removed(31)).toBeGreaterThan(0);
    expect(await removed(31)).toBe(0);
    expect(await attempts(database, endpoint)).toEqual([]);
    expect((await deliveries(database, endpoint)).map(({ message_id }) => message_id)).toEqual(waiting.map(({ message_id }) => message_id));
    await dispatcher.stop();
  });
});
