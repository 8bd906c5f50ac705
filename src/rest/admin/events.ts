import { z } from "zod";
import { batchBodyLimitBytes } from "../bodies.ts";
import { isDecimal } from "../decimals.ts";
import { administered, defineOperation, type Operation } from "../operations.ts";
import { pageQuery } from "../parameters.ts";
import { eventShape, parseShape } from "../shapes.ts";

/** Events of one batch. */
const mostEvents = 1_000;

const enqueueStatement = administered("enqueue_events", "laurel_private.enqueue_events($3::jsonb)");
const readStatement = administered("read_queued_events", "laurel_private.read_queued_events($3::int, $4::int)");

const notDecimal = (issue: { input?: unknown }): string =>
  issue.input === undefined ? "is required" : "must be a finite number, or a decimal in a string";

const batch = z
  .array(eventShape.extend({
    key: z.string(),
    value: z.union([z.number(), z.string().refine(isDecimal)], { error: notDecimal }),
    idempotencyKey: z.string().nullish(),
  }))
  .min(1)
  .max(mostEvents);

const common = { api: "admin", tag: "Metrics", path: "/metrics/events" } as const;

/** Events in batches: accepted when stored, recorded by the worker in order per user. */
export const batchEventOperations: readonly Operation[] = [
  {
    ...common,
    id: "admin_metrics_batch_events",
    summary: "Accepts up to 1,000 events: stored before the answer, recorded soon after, in order per user. All or none.",
    method: "post",
    body: batch,
    bodyLimitBytes: batchBodyLimitBytes,
    answers: { 202: z.object({ accepted: z.int() }) },
    refusals: [400, 404],
    answer: async ({ body, run }) => {
      parseShape(batch, body.value);
      // The text as it came: the database reads numbers with all their digits.
      const { body: answer = "" } = await run(enqueueStatement, [body.text]);
      return { status: 202, body: answer };
    },
  },
  defineOperation({
    ...common,
    id: "admin_metrics_batch_events_status",
    summary: "How many accepted events wait, and which were refused when their turn came. An extension of ours.",
    method: "get",
    query: pageQuery,
    answers: {
      200: z.object({
        waiting: z.int(),
        refused: z.array(z.object({
          id: z.guid(),
          key: z.string(),
          userId: z.string(),
          value: z.number(),
          idempotencyKey: z.string().nullable(),
          occurredAt: z.iso.datetime(),
          error: z.string(),
        })),
      }),
    },
    answer: async ({ query: { limit, skip }, run }) => {
      const { body = "" } = await run(readStatement, [limit, skip]);
      return { status: 200, body };
    },
  }),
];
