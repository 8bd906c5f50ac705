import { z } from "zod";
import { deletedAnswer, issueAnswer, pauseAnswer, streakSettingsAnswer } from "../answers.ts";
import { batchBodyLimitBytes, bodyLimitBytes } from "../bodies.ts";
import { administered, type Call, defineOperation, type Operation } from "../operations.ts";
import { idsQuery, mostItems } from "../parameters.ts";
import { Refusal } from "../refusals.ts";
import { checkShape, type Shape, unchangedSince } from "../shapes.ts";
import { type Changed, type Issue, issueOf } from "./resources.ts";

const changeStatement = administered("change_streaks", "laurel_private.change_streaks($3, $4::jsonb)");
const deletePausesStatement = administered("delete_pauses", "laurel_private.delete_pauses($3::uuid[])");
const settingsStatement = administered("streak_settings", "laurel.streak_settings()");
const updateSettingsStatement = administered("update_streak_settings", "laurel.update_streak_settings($3::jsonb)");

const byUserId = z.object({ userId: z.string() });
const byId = z.object({ id: z.string() }).transform(({ id }) => ({ userId: id }));
const pause = byUserId.extend({ start: z.iso.date(), end: z.iso.date() });
const users = z.array(z.object({ id: z.string() })).min(1).max(mostItems);
const issues = z.array(issueAnswer);

const frequency = z.enum(["daily", "weekly", "monthly"]);
const settingsChanges = z.object({
  frequency: frequency.optional(),
  evaluationMode: z.enum(["AND", "OR"]).optional(),
  customizationEnabled: z.boolean().optional(),
  daysOff: z.array(z.int().min(0).max(6)).max(6).optional(),
  metrics: z.array(z.object({ key: z.string(), threshold: z.int().min(1).max(10_000) })).min(1).optional(),
  freezes: z.object({
    startCount: z.int().min(0).max(100),
    maxCount: z.int().min(1).max(100),
    autoEarnInterval: z.int().min(1).max(365).nullish(),
    autoEarnAmount: z.int().min(1).max(10).nullish(),
  }).nullish(),
  unchangedSince,
});

/** Does for each item of `body[list]` what `operation` says; what is wrong with an item becomes its issue. */
async function changeEach(
  { body, run }: Pick<Call, "body" | "run">,
  operation: "freezes" | "pauses" | "restore" | "reset",
  list: string,
  shape: Shape<object>,
): Promise<Changed> {
  const given = (body.value as Record<string, unknown> | null)?.[list];
  if (!Array.isArray(given) || given.length === 0 || given.length > mostItems) {
    throw new Refusal(422, `${list} must be an array of 1 to ${mostItems} objects.`, { field: list });
  }
  const sound: { index: number; item: object }[] = [];
  const faults: Issue[] = [];
  for (const [index, item] of (given as unknown[]).entries()) {
    const checked = checkShape(shape, item);
    if ("value" in checked) sound.push({ index, item: checked.value });
    else faults.push({ ...issueOf(checked.fault, { index, field: checked.field }), ...userOf(item) });
  }
  const { body: answer = "" } = await run(changeStatement, [operation, JSON.stringify(sound)]);
  const changed = JSON.parse(answer) as Changed;
  return { done: changed.done, issues: [...faults, ...changed.issues].sort((a, b) => (a.index ?? 0) - (b.index ?? 0)) };
}

function userOf(item: unknown): { userId?: string } {
  const { userId, id } = (item ?? {}) as { userId?: unknown; id?: unknown };
  return typeof userId === "string" ? { userId } : typeof id === "string" ? { userId: id } : {};
}

const common = { api: "admin", tag: "Streaks" } as const;
const posted = { ...common, method: "post", bodyLimitBytes: batchBodyLimitBytes, refusals: [400] } as const;
const someOrNone = (count: number): number => (count > 0 ? 201 : 200);

/** What administrators do to streaks (rules S1, S2): freezes, pauses, restoring, resetting, and the settings. */
export const adminStreakOperations: readonly Operation[] = [
  {
    ...posted,
    id: "admin_streaks_freezes_create",
    summary: "Gives users a freeze each time they are named.",
    path: "/streaks/freezes",
    body: z.object({ freezes: z.array(byUserId).min(1).max(mostItems) }),
    answers: { 201: z.object({ issues }), 200: z.object({ issues }) },
    answer: async (call) => {
      const { done, issues } = await changeEach(call, "freezes", "freezes", byUserId);
      return { status: someOrNone(done.length), body: JSON.stringify({ issues }) };
    },
  },
  {
    ...posted,
    id: "admin_streaks_pauses_create",
    summary: "Pauses the streaks of users from a day, today or later, to another, both included.",
    path: "/streaks/pauses",
    body: z.object({ pauses: z.array(pause).min(1).max(mostItems) }),
    answers: {
      201: z.object({ created: z.array(pauseAnswer), issues }),
      200: z.object({ created: z.array(pauseAnswer), issues }),
    },
    answer: async (call) => {
      const { done, issues } = await changeEach(call, "pauses", "pauses", pause);
      return { status: someOrNone(done.length), body: JSON.stringify({ created: done, issues }) };
    },
  },
  defineOperation({
    ...common,
    id: "admin_streaks_pauses_delete",
    summary: "Takes pauses back; what they have bridged so far stays.",
    method: "delete",
    path: "/streaks/pauses",
    query: idsQuery,
    answers: { 200: deletedAnswer },
    answer: async ({ query: { ids }, run }) => {
      const isId = (text: string): boolean => z.guid().safeParse(text).success;
      const { body = "" } = await run(deletePausesStatement, [ids.filter(isId)]);
      const { done, issues } = JSON.parse(body) as Changed;
      const faults = ids.filter((id) => !isId(id)).map((id) => issueOf("id must be a UUID.", { id }));
      return { status: 200, body: JSON.stringify({ deleted: done, issues: [...faults, ...issues] }) };
    },
  }),
  {
    ...posted,
    id: "admin_streaks_restore",
    summary: "Brings back the streaks that users lost last.",
    path: "/streaks/restore",
    body: z.object({ users }),
    answers: {
      201: z.object({ restoredUsers: z.array(z.string()), issues }),
      200: z.object({ restoredUsers: z.array(z.string()), issues }),
    },
    answer: async (call) => {
      const { done, issues } = await changeEach(call, "restore", "users", byId);
      return { status: someOrNone(done.length), body: JSON.stringify({ restoredUsers: done, issues }) };
    },
  },
  {
    ...posted,
    id: "admin_streaks_reset",
    summary: "Sets the streaks of users to zero.",
    path: "/streaks/reset",
    body: z.object({ users }),
    answers: { 200: z.object({ resetUsers: z.array(z.string()), issues }) },
    answer: async (call) => {
      const { done, issues } = await changeEach(call, "reset", "users", byId);
      return { status: 200, body: JSON.stringify({ resetUsers: done, issues }) };
    },
  },
  defineOperation({
    ...common,
    id: "admin_streaks_settings_get",
    summary: "How streaks are judged.",
    method: "get",
    path: "/streaks/settings",
    answers: { 200: streakSettingsAnswer },
    answer: async ({ run }) => {
      const { body = "" } = await run(settingsStatement, []);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "admin_streaks_settings_update",
    summary: "Changes the given streak settings, for what happens from now on. With unchangedSince, the `updated` you know, 409 if they were changed since.",
    method: "patch",
    path: "/streaks/settings",
    body: settingsChanges,
    bodyLimitBytes,
    answers: { 200: streakSettingsAnswer },
    refusals: [400, 409],
    answer: async ({ body: changes, run }) => {
      const { body = "" } = await run(updateSettingsStatement, [JSON.stringify(changes)]);
      return { status: 200, body };
    },
  }),
];
