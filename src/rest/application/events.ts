import { z } from "zod";
import { eventAnswer } from "../answers.ts";
import { bodyLimitBytes } from "../bodies.ts";
import { decimalOf } from "../decimals.ts";
import { claimed, type Operation } from "../operations.ts";
import { eventShape, parseShape } from "../shapes.ts";

const recordEventStatement = claimed(
  "record_event",
  "laurel.record_event($3, $4, $5::numeric, $6::jsonb, $7, $8::timestamptz, $9::jsonb)",
);

/**
 * Records an event: 201, or 202 for a repeated Idempotency-Key (rule E4). An extension of ours: `occurredAt`, when
 * it happened (rule E8).
 */
export const recordEvent: Operation = {
  api: "application",
  id: "metrics_event",
  tag: "Metrics",
  summary: "Records an event of a user on a metric and tells what it did. A repeated Idempotency-Key changes nothing.",
  method: "post",
  path: "/metrics/:key/event",
  headers: { "Idempotency-Key": "Counts once per user and metric, for ever; 1 to 255 characters." },
  body: eventShape.extend({ value: z.union([z.number(), z.string()]) }),
  bodyLimitBytes,
  answers: { 201: eventAnswer, 202: eventAnswer },
  refusals: [400, 403, 404],
  answer: async ({ params, body, header, run }) => {
    const { user, attributes, occurredAt } = parseShape(eventShape, body.value);
    const { body: answer = "" } = await run(recordEventStatement, [
      params["key"],
      user.id,
      decimalOf(body),
      JSON.stringify(attributes ?? {}),
      header("idempotency-key") ?? null,
      occurredAt ?? null,
      JSON.stringify(user),
    ]);
    // No text inside the answer can hold this: quotes within texts are escaped.
    return { status: answer.includes('"idempotentReplayed": true') ? 202 : 201, body: answer };
  },
};
