import { createHmac } from "node:crypto";
import { beforeAll, describe, expect, test } from "@jest/globals";
import request from "supertest";
import { parseNetworks } from "../../src/config.ts";
import { createApp } from "../../src/server.ts";
import { readConfig } from "../../src/config.ts";
import { createPools } from "../../src/postgres/pools.ts";
import { silentLogger, testTimeouts } from "../support/database.ts";
import { aClock, aDispatcher } from "../support/dispatch.ts";
import { httpReceiver } from "../support/faulty_receivers.ts";
import { readReference } from "../support/reference.ts";
import { idsOf, type RestApi, sentencesOf, startRestApi } from "../support/rest.ts";
import { webhookTypes } from "../support/webhooks.ts";

/** Rule H1 over REST: endpoints, secrets that are shown once, deliveries, replay, test messages. */

let rest: RestApi;
const path = "/admin/v1/webhooks";
const url = "https://example.com/hook";
const eventTypes = ["points.changed"];

beforeAll(async () => {
  rest = await startRestApi();
});

interface Shown { id: string; secret?: string; active: boolean; eventTypes: string[]; secretRotated: string | null; messageId: string; status: string; type: string; payload: unknown }

const created = async (item: object = {}): Promise<Shown> => {
  const response = await rest.as().post(path, [{ url, eventTypes, ...item }]).expect(201);
  return (response.body as { created: Shown[] }).created[0] as Shown;
};

describe("webhooks", () => {
  test("are created with a secret that is shown once and stored sealed, changed, listed and deleted", async () => {
    const made = await created({ description: "Ours" });
    expect(made.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    const { secret, ...shown } = made;
    expect((await rest.as().get(`${path}/${made.id}`).expect(200)).body).toEqual(shown);
    expect((await rest.as().get(path).expect(200)).body).toContainEqual(shown);
    const changed = await rest.as().patch(path, [{ id: made.id, eventTypes: ["streak.lost", "points.changed"], active: false }]).expect(200);
    expect(changed.body).toMatchObject({ updated: [{ id: made.id, active: false, eventTypes: ["streak.lost", "points.changed"], description: "Ours" }], issues: [] });
    const database = await rest.database.pools.owner.query<{ text: string }>(
      `select (select string_agg(s::text, '') from laurel_private.webhook_secrets s) || (select string_agg(l::text, '') from laurel.audit_entries l) as text`);
    expect(database.rows[0]?.text).not.toContain(secret);
    expect(database.rows[0]?.text).toContain("webhook_endpoints");
    expect((await rest.as().delete(`${path}?ids=${made.id}`).expect(200)).body).toMatchObject({ deleted: [{ id: made.id }] });
    await rest.as().get(`${path}/${made.id}`).expect(404);
  });

  test("take a secret of one's own; each created one is given its own, whatever items are refused between them", async () => {
    const own = "a secret that others know already".replaceAll(" ", "-");
    const response = await rest.as().post(path, [
      { url, eventTypes, secret: `${own}-1` },
      { url: "http://10.1.2.3/hook", eventTypes, secret: `${own}-2` },
      { url, eventTypes: 5 },
      { url, eventTypes, secret: `${own}-4` },
    ]).expect(201);
    const { created: made } = response.body as { created: Shown[] };
    expect(made.map(({ secret }) => secret)).toEqual([`${own}-1`, `${own}-4`]);
    expect(sentencesOf(response)).toHaveLength(2);
    await rest.as().post(path, [{ url, eventTypes, secret: "short" }]).expect(200);
  });

  test.each([
    ["ftp://example.com/"], ["https://user:password@example.com/"], ["https:///nowhere"], ["not a url"], [`https://example.com/${"x".repeat(2000)}`],
    ["http://localhost/"], ["http://app.localhost:8080/"], ["http://127.0.0.1/"], ["http://127.1/"], ["http://2130706433/"], ["http://0x7f000001/"], ["http://0177.0.0.1/"],
    ["http://10.0.0.1/"], ["http://172.16.0.1/"], ["http://192.168.1.1/"], ["http://169.254.169.254/latest/meta-data"], ["http://100.64.0.1/"], ["http://224.0.0.1/"],
    ["http://0.0.0.0/"], ["http://[::1]/"], ["http://[fe80::1]/"], ["http://[fc00::1]/"], ["http://[::ffff:127.0.0.1]/"], ["http://[64:ff9b::7f00:1]/"], ["http://[2002:7f00:1::]/"],
  ])("are refused for %s", async (refused) => {
    const response = await rest.as().post(path, [{ url: refused, eventTypes }]).expect(200);
    expect(sentencesOf(response)).toHaveLength(1);
    expect(idsOf(response)).toEqual([]);
  });

  test.each([
    [{ eventTypes: [] }, "A webhook has at least one event type."],
    [{ eventTypes: ["points.changed", "points.unknown"] }, "An event type is one of points.changed, "],
    [{ maxConcurrency: 0 }, "A webhook takes 1 to 100 requests at once."],
    [{ maxConcurrency: 101 }, "A webhook takes 1 to 100 requests at once."],
  ])("are refused with %j", async (values, sentence) => {
    const response = await rest.as().post(path, [{ url, eventTypes, ...values }]).expect(200);
    expect(sentencesOf(response)[0]).toContain(sentence);
  });

  test("may lead to a private address that LAUREL_WEBHOOK_ALLOW_CIDRS names, and need a key to keep secrets with", async () => {
    const { connectionString, serverConnectionString } = rest.database;
    const pools = createPools({
      ownerUrl: connectionString, serverUrl: serverConnectionString, size: 2, timeouts: testTimeouts, logger: silentLogger,
      webhookNetworks: parseNetworks("10.0.0.0/8, ::1/128"),
    });
    const app = createApp({ config: readConfig({}), pools, logger: silentLogger, isDraining: () => false });
    const keyless = await request(app.listener).post(path).set("X-API-KEY", rest.adminKey.secret).send([{ url, eventTypes }]);
    expect([keyless.status, keyless.text]).toEqual([422, expect.stringContaining("LAUREL_SECRET_KEY")]);
    const { id } = await created();
    const patch = (to: string): request.Test => request(app.listener).patch(path).set("X-API-KEY", rest.adminKey.secret).send([{ id, url: to }]);
    expect((await patch("http://10.1.2.3/")).body).toMatchObject({ issues: [] });
    expect((await patch("http://[::1]:8080/")).body).toMatchObject({ issues: [] });
    expect(sentencesOf(await patch("http://192.168.0.1/"))).toHaveLength(1);
    await app.release();
    await pools.end();
  });

  test("belong to their tenant", async () => {
    const { id } = await created();
    await rest.createTenant("other");
    const there = (test: request.Test): request.Test => test.set("Tenant-ID", "other");
    expect((await there(rest.as().get(path)).expect(200)).body).toEqual([]);
    for (const call of [
      rest.as().get(`${path}/${id}`), rest.as().get(`${path}/${id}/deliveries`), rest.as().post(`${path}/${id}/secret`, {}),
      rest.as().post(`${path}/${id}/replay`, {}), rest.as().post(`${path}/${id}/test`, {}),
    ]) await there(call).expect(404);
  });
});

describe("delivery over REST", () => {
  test("a test message, the log, a rotation, a replay", async () => {
    const got: { body: string; signature: string }[] = [];
    const receiver = await httpReceiver((incoming, response) => {
      got.push({ body: "", signature: String(incoming.headers["x-trophy-signature"]) });
      response.writeHead(got.length === 1 ? 500 : 200).end(`answer ${got.length}`);
    });
    const made = await created();
    await rest.database.pools.owner.query("begin; set local laurel.webhook_allow_cidrs = '127.0.0.0/8'; update laurel.webhook_endpoints set url = '" + receiver.url + "' where id = '" + made.id + "'; commit");
    const sent = (await rest.as().post(`${path}/${made.id}/test`, { type: "points.changed" }).expect(202)).body as Shown;
    await rest.as().post(`${path}/${made.id}/test`, { type: "streak.lost" }).expect(422);
    const clock = aClock();
    const dispatcher = aDispatcher(rest.database, clock);
    await dispatcher.runOnce();
    const deliveries = async (query = ""): Promise<Shown[]> => (await rest.as().get(`${path}/${made.id}/deliveries${query}`).expect(200)).body as Shown[];
    expect(await deliveries()).toMatchObject([
      { messageId: sent.messageId, status: "pending", type: "points.changed", payload: { type: "points.changed" }, attempts: [{ status: 500, response: "answer 1" }] },
    ]);
    const rotated = (await rest.as().post(`${path}/${made.id}/secret`, { overlapSeconds: 0 }).expect(201)).body as Shown;
    expect(rotated.secret).not.toBe(made.secret);
    expect(rotated.secretRotated).not.toBeNull();
    expect((await rest.as().post(`${path}/${made.id}/replay`, { messageId: sent.messageId }).expect(200)).body).toEqual({ replayed: 1 });
    await dispatcher.runOnce();
    const [delivery] = await deliveries("?status=delivered");
    expect(delivery).toMatchObject({ messageId: sent.messageId, attempts: [{ status: 500 }, { status: 200, response: "answer 2" }] });
    const stored = await rest.database.pools.owner.query<{ body: string }>("select payload::text as body from laurel.webhook_messages where id = $1", [sent.messageId]);
    expect(got[1]?.signature).toBe(createHmac("sha256", rotated.secret ?? "").update(stored.rows[0]?.body ?? "").digest("base64"));
    expect(await deliveries("?status=parked")).toEqual([]);
    expect((await rest.as().post(`${path}/${made.id}/replay`, { from: "2026-01-01T00:00:00Z", onlyParked: false }).expect(200)).body).toEqual({ replayed: 1 });
    await receiver.close();
    await dispatcher.stop();
  });

  test("a replay to a webhook that is inactive is refused in a sentence, over REST and GraphQL, until it is active", async () => {
    const { id } = await created();
    const { messageId } = (await rest.as().post(`${path}/${id}/test`, { type: "points.changed" }).expect(202)).body as Shown;
    const setActive = (active: boolean): request.Test => rest.as().patch(path, [{ id, active }]).expect(200);
    const ask = async (mutation: string, input: string): Promise<unknown> =>
      (await rest.as().post("/graphql", { query: `mutation { ${mutation}(input: { ${input} }) { result } }` })).body;
    const sentence = "The webhook is not active; activate it first.";
    await setActive(false);
    for (const body of [{}, { onlyParked: false }, { messageId }]) {
      const refused = await rest.as().post(`${path}/${id}/replay`, body);
      expect([refused.status, (refused.body as { error: string }).error]).toEqual([422, sentence]);
    }
    const refused = { errors: [{ message: sentence, extensions: { code: "LR020" } }] };
    expect(await ask("replayWebhookEndpoint", `endpointId: "${id}"`)).toMatchObject(refused);
    expect(await ask("replayWebhookMessage", `messageId: "${messageId}"`)).toMatchObject(refused);
    await setActive(true);
    expect((await rest.as().post(`${path}/${id}/replay`, { messageId }).expect(200)).body).toEqual({ replayed: 1 });
    expect(await ask("replayWebhookMessage", `messageId: "${messageId}"`)).toEqual({ data: { replayWebhookMessage: { result: 1 } } });
  });

  const reference = readReference();
  (reference === undefined ? test.skip : test)("test messages of every type are as the contract has them", async () => {
    const { id } = await created({ eventTypes: webhookTypes });
    for (const type of webhookTypes) {
      const { messageId } = (await rest.as().post(`${path}/${id}/test`, { type }).expect(202)).body as Shown;
      const found = await rest.database.pools.owner.query<{ payload: unknown }>("select payload from laurel.webhook_messages where id = $1", [messageId]);
      expect([type, reference?.faultsOfWebhook(type, found.rows[0]?.payload)]).toEqual([type, []]);
    }
  });
});
