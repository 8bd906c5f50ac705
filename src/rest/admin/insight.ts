import { z } from "zod";
import { bodyLimitBytes } from "../bodies.ts";
import { administered, type Call, type Operation, type Statement } from "../operations.ts";
import { mostItems, uuidParam } from "../parameters.ts";
import { parseShape, wholeNumber } from "../shapes.ts";
import { draftShapes } from "./configuration.ts";
import { previewAnswer } from "./insight_answers.ts";

/** JSON types of what simulations take; limits and what exists are the database's to judge (insight/preview_points.sql). */
const texts = z.record(z.string(), z.string()).nullish();
const draft = z.object({
  maxPoints: wholeNumber.nullish(),
  triggers: z.array(draftShapes.trigger).max(mostItems).nullish(),
  boosts: z.array(draftShapes.boost).max(mostItems).nullish(),
  levels: z.array(draftShapes.level).max(mostItems).nullish(),
}).nullish();
const scenario = z.object({
  days: wholeNumber,
  start: z.iso.date().nullish(),
  seed: z.int().nullish(),
  kinds: z.array(z.object({
    name: z.string(),
    users: wholeNumber,
    tz: z.string().nullish(),
    attributes: texts,
    activeDays: z.union([z.number(), z.array(wholeNumber)]).nullish(),
    events: z.array(z.object({
      metric: z.string(),
      perDay: z.union([z.number(), z.array(wholeNumber)]),
      value: z.number().nullish(),
      attributes: texts,
    })),
    achievements: z.array(z.object({ key: z.string(), day: wholeNumber })).nullish(),
  })),
  draft,
});

const previewStatement = administered("preview_points", "laurel.preview_points(laurel_private.points_system_key($3::uuid), $4::jsonb)");

const common = { api: "admin", tag: "Insight", refusals: [404] } as const;

/** Sends a document as it came, once its JSON types are right: the database refuses properties that it does not know. */
async function simulate({ params, body, run }: Call, shape: z.ZodType, statement: Statement): Promise<{ status: number; body: string }> {
  parseShape(shape, body.value);
  const { body: answer = "" } = await run(statement, [uuidParam(params, "systemId"), body.text]);
  return { status: 200, body: answer };
}

/** Balancing a points system before anybody sees it (rules D1 to D3). Extensions of ours. */
export const insightOperations: readonly Operation[] = [
  {
    ...common,
    id: "admin_points_preview",
    summary: "What a system's rules, with drafts laid over them, would give kinds of users over some days. Nothing is stored. An extension of ours.",
    method: "post",
    path: "/points/:systemId/preview",
    body: scenario,
    bodyLimitBytes,
    answers: { 200: previewAnswer },
    answer: (call) => simulate(call, scenario, previewStatement),
  },
];
