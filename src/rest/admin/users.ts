import { z } from "zod";
import { explanationAnswer, preferencesAnswer, userAnswer, userPointsAnswer } from "../answers.ts";
import { batchBodyLimitBytes } from "../bodies.ts";
import { administered, defineOperation, type Operation } from "../operations.ts";
import { mostItems } from "../parameters.ts";
import { wholeNumber } from "../shapes.ts";
import { answerCreated, change, createdAnswer, listOperation, readItems } from "./resources.ts";

const exportStatement = administered("export_user", "laurel.export_user($3)");
const eraseStatement = administered("erase_user", "to_jsonb(laurel.erase_user($3))");

const adjustment = z.object({
  userId: z.string(),
  points: wholeNumber,
  reason: z.string(),
  idempotencyKey: z.string().nullish(),
});
const adjusted = z.object({ userId: z.string(), points: userPointsAnswer });

const common = { api: "admin", tag: "Users", refusals: [404] } as const;

/** What administrators do to users beyond the contract: adjustments (rule Q3), export and erasure (rule K4), the audit log (K5). */
export const adminUserOperations: readonly Operation[] = [
  {
    ...common,
    id: "admin_points_adjustments_create",
    summary: "Adds or takes points by hand, each with a reason; capped and floored, not boosted. An extension of ours.",
    method: "post",
    path: "/points/:systemId/adjustments",
    body: z.array(adjustment).min(1).max(mostItems),
    bodyLimitBytes: batchBodyLimitBytes,
    answers: { 201: createdAnswer(adjusted), 200: createdAnswer(adjusted) },
    answer: async (call) => answerCreated(await change(call, "create", "adjustments", readItems(call, adjustment))),
  },
  defineOperation({
    ...common,
    id: "admin_users_export",
    summary: "Everything that is stored about a user. An extension of ours.",
    method: "get",
    path: "/users/:id/export",
    answers: {
      200: z.object({
        user: userAnswer,
        preferences: preferencesAnswer,
        metrics: z.array(z.object({ metricId: z.guid(), key: z.string().nullable(), total: z.number(), peak: z.number() })),
        points: z.array(z.object({ systemId: z.guid(), key: z.string().nullable(), total: z.int() })),
        events: z.array(z.record(z.string(), z.unknown())),
        awards: z.array(explanationAnswer),
        boosts: z.array(z.record(z.string(), z.unknown())),
        apiKeys: z.array(z.record(z.string(), z.unknown())),
        webhookMessages: z.array(z.record(z.string(), z.unknown())),
      }),
    },
    answer: async ({ params, run }) => {
      const { body = "" } = await run(exportStatement, [params["id"]]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "admin_users_erase",
    summary: "Erases a user and everything stored about it, for good. Figures of the systems stay right. An extension of ours.",
    method: "delete",
    path: "/users/:id",
    answers: { 200: z.object({ erased: z.literal(true) }) },
    answer: async ({ params, run }) => {
      await run(eraseStatement, [params["id"]]);
      return { status: 200, body: JSON.stringify({ erased: true }) };
    },
  }),
  listOperation(
    {
      api: "admin",
      tag: "Audit log",
      id: "admin_audit_log_list",
      summary: "Who changed what of the configuration, the latest first. An extension of ours.",
      path: "/audit-log",
    },
    "audit-log",
    z.object({
      id: z.guid(),
      date: z.iso.datetime(),
      actor: z.string(),
      operation: z.enum(["create", "update", "archive", "delete"]),
      kind: z.string(),
      objectId: z.guid(),
      objectKey: z.string().nullable(),
      before: z.record(z.string(), z.unknown()).nullable(),
      after: z.record(z.string(), z.unknown()).nullable(),
    }),
  ),
];
