import { z } from "zod";

/** What previews, backtests and analytics answer. */

const named = <T extends z.ZodType>(name: string, shape: T): T => shape.meta({ id: name });

const shownTrigger = named("RehearsedTrigger", z.object({
  id: z.guid().optional(),
  /** The place in the draft's triggers, of one that is not saved. */
  draft: z.int().optional(),
  type: z.enum(["metric", "achievement", "streak", "time", "user_creation"]),
  points: z.int(),
  status: z.literal("active"),
}).loose());

const figures = {
  totals: z.array(z.object({ day: z.int(), date: z.iso.date(), p10: z.int(), p50: z.int(), p90: z.int() })),
  byTrigger: z.array(z.object({ trigger: shownTrigger, firings: z.number(), awarded: z.number() })),
  levels: z.array(z.object({ key: z.string(), share: z.number().min(0).max(1), medianDay: z.int().nullable() })),
  lost: z.object({ rounding: z.number(), cap: z.number(), floor: z.number() }),
};

export const previewAnswer = named("PointsPreview", z.object({
  days: z.int(),
  start: z.iso.date(),
  seed: z.int(),
  kinds: z.array(z.object({
    name: z.string(),
    users: z.int(),
    simulatedUsers: z.int(),
    events: z.number(),
    refusedEvents: z.number(),
    ...figures,
  })),
}));
