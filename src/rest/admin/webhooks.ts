import { z } from "zod";
import { generateWebhookSecret } from "../../webhooks/secrets.ts";
import { batchBodyLimitBytes, bodyLimitBytes } from "../bodies.ts";
import { administered, type Call, defineOperation, type Operation } from "../operations.ts";
import { mostItems, pageQuery, uuidParam } from "../parameters.ts";
import { Refusal } from "../refusals.ts";
import { wholeNumber } from "../shapes.ts";
import { answerCreated, change, createdAnswer, operationsOf, readItems } from "./resources.ts";

const instant = z.iso.datetime();
/** Of one's own, so that receivers need not learn another; else one is made. */
const secret = z.string().regex(/^[\x21-\x7e]{24,255}$/, { error: "must be 24 to 255 visible ASCII characters" }).nullish();

const fields = {
  url: z.string(),
  description: z.string().nullish(),
  eventTypes: z.array(z.string()).max(mostItems),
  active: z.boolean().nullish(),
  maxConcurrency: wholeNumber.nullish(),
};
const webhook = z.object({ ...fields, secret });

const shown = z.object({
  id: z.guid(),
  url: z.string(),
  description: z.string().nullable(),
  eventTypes: z.array(z.string()),
  active: z.boolean(),
  maxConcurrency: z.int(),
  disabled: instant.nullable(),
  disabledReason: z.string().nullable(),
  secretRotated: instant.nullable(),
  created: instant,
  updated: instant,
});
const shownWithSecret = shown.extend({ secret: z.string() });

const delivery = z.object({
  messageId: z.guid(),
  type: z.string(),
  userId: z.string().nullable(),
  status: z.enum(["pending", "delivered", "parked"]),
  created: instant,
  nextAttempt: instant.nullable(),
  delivered: instant.nullable(),
  parked: instant.nullable(),
  payload: z.record(z.string(), z.unknown()),
  attempts: z.array(z.object({
    date: instant,
    latencyMs: z.int(),
    status: z.int().nullable(),
    error: z.string().nullable(),
    response: z.string().nullable(),
  })),
});

const rotateStatement = administered("rotate_webhook_secret", "laurel_private.rotate_webhook_secret($3::uuid, $4, $5::int)");
const deliveriesStatement = administered("list_webhook_deliveries", "laurel_private.list_webhook_deliveries($3::uuid, $4, $5::int, $6::int)");
const replayStatement = administered("replay_webhook_endpoint",
  "to_jsonb(laurel.replay_webhook_endpoint($3::uuid, $4::timestamptz, $5::timestamptz, $6::boolean))");
const replayMessageStatement = administered("replay_webhook_message", "to_jsonb(laurel.replay_webhook_message($4::uuid, $3::uuid))");
const testStatement = administered("send_test_webhook", "to_jsonb(laurel.send_test_webhook($3::uuid, $4))");

const common = { api: "admin", tag: "Webhooks", refusals: [404] } as const;
const [, update, remove, list, get] = operationsOf({
  name: "webhooks",
  idPrefix: "admin_webhooks",
  tag: "Webhooks",
  path: "/webhooks",
  noun: "webhooks, without their secrets. An extension of ours",
  toCreate: webhook,
  toUpdate: z.object(fields).partial().extend({ id: z.guid() }),
  shown,
}) as readonly [Operation, Operation, Operation, Operation, Operation];

/** Webhooks (rules H1, H2): endpoints, their secrets, what was sent to them, and sending it again. */
export const webhookOperations: readonly Operation[] = [
  {
    ...common,
    refusals: [],
    id: "admin_webhooks_create",
    summary: "Creates webhooks. Each secret is shown this once. An extension of ours.",
    method: "post",
    path: "/webhooks",
    body: z.array(webhook).min(1).max(mostItems),
    bodyLimitBytes: batchBodyLimitBytes,
    answers: { 201: createdAnswer(shownWithSecret), 200: createdAnswer(shownWithSecret) },
    answer: createWebhooks,
  },
  update,
  remove,
  list,
  get,
  defineOperation({
    ...common,
    id: "admin_webhooks_rotate_secret",
    summary: "Gives a webhook a new secret, shown this once. The one before it signs beside it until the overlap is over. An extension of ours.",
    method: "post",
    path: "/webhooks/:id/secret",
    body: z.object({ secret, overlapSeconds: z.int().min(0).max(2_592_000).nullish() }),
    bodyLimitBytes,
    answers: { 201: shownWithSecret },
    answer: async ({ params, body, secrets, run }) => {
      const given = body.secret ?? generateWebhookSecret();
      const sealed = requireBox(secrets).seal(given).toString("base64");
      const { body: text = "" } = await run(rotateStatement, [uuidParam(params, "id"), sealed, body.overlapSeconds ?? defaultOverlapSeconds]);
      return { status: 201, body: JSON.stringify({ ...(JSON.parse(text) as object), secret: given }) };
    },
  }),
  defineOperation({
    ...common,
    id: "admin_webhooks_deliveries",
    summary: "What was sent to a webhook, the latest first, each with its attempts of the last 30 days. An extension of ours.",
    method: "get",
    path: "/webhooks/:id/deliveries",
    query: pageQuery.extend({ status: z.enum(["pending", "delivered", "parked"]).optional() }),
    answers: { 200: z.array(delivery) },
    answer: async ({ params, query: { status, limit, skip }, run }) => {
      const { body = "" } = await run(deliveriesStatement, [uuidParam(params, "id"), status ?? null, limit, skip]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "admin_webhooks_replay",
    summary: "Sends again: one message, or what was parked (with onlyParked false everything) of messages written in a range of time. The webhook must be active. An extension of ours.",
    method: "post",
    path: "/webhooks/:id/replay",
    body: z.object({ messageId: z.guid().nullish(), from: instant.nullish(), to: instant.nullish(), onlyParked: z.boolean().nullish() }),
    bodyLimitBytes,
    answers: { 200: z.object({ replayed: z.int() }) },
    answer: async ({ params, body: { messageId, from, to, onlyParked }, run }) => {
      const id = uuidParam(params, "id");
      const { body = "" } =
        messageId === null || messageId === undefined
          ? await run(replayStatement, [id, from ?? null, to ?? null, onlyParked ?? true])
          : await run(replayMessageStatement, [id, messageId]);
      return { status: 200, body: `{"replayed":${body}}` };
    },
  }),
  defineOperation({
    ...common,
    id: "admin_webhooks_test",
    summary: "Sends a made-up message of a type to a webhook. An extension of ours.",
    method: "post",
    path: "/webhooks/:id/test",
    body: z.object({ type: z.string().nullish() }),
    bodyLimitBytes,
    answers: { 202: z.object({ messageId: z.guid() }) },
    answer: async ({ params, body: { type }, run }) => {
      const { body = "" } = await run(testStatement, [uuidParam(params, "id"), type ?? null]);
      return { status: 202, body: `{"messageId":${body}}` };
    },
  }),
];

/** How long an old secret signs when nobody says. */
const defaultOverlapSeconds = 86_400;

function requireBox<T>(secrets: T | undefined): T {
  if (secrets === undefined) {
    throw new Refusal(422, "This server has no key to keep secrets with: set LAUREL_SECRET_KEY and start it again.");
  }
  return secrets;
}

/** Secrets reach the database sealed; what is shown comes from here. */
async function createWebhooks(call: Call) {
  const box = requireBox(call.secrets);
  const { sound, issues } = readItems(call, webhook);
  const plain = sound.map(({ item }) => (item as z.output<typeof webhook>).secret ?? generateWebhookSecret());
  const items = sound.map(({ index, item }, place) => {
    return { ...(index === undefined ? {} : { index }), item: { ...item, secret: undefined, sealed: box.seal(plain[place] ?? "").toString("base64") } };
  });
  const { done, issues: all } = await change(call, "create", "webhooks", { sound: items, issues });
  // Those created come in the order given, without those that became issues.
  const refused = new Set(all.map(({ index }) => index));
  const kept = plain.filter((_secret, place) => !refused.has(sound[place]?.index));
  return answerCreated({ done: done.map((created, place) => ({ ...created, secret: kept[place] })), issues: all });
}
