import { z } from "zod";
import { notificationsShape, preferencesAnswer, streakPreferencesShape, userAnswer, wrappedAnswer } from "../answers.ts";
import { bodyLimitBytes } from "../bodies.ts";
import { claimed, defineOperation, type Operation } from "../operations.ts";
import { identifiedUserShape, profileShape } from "../shapes.ts";

const identifyStatement = claimed("identify_user", "laurel.identify_user($3, $4::jsonb)");
const updateStatement = claimed("update_user", "laurel.update_user($3, $4::jsonb)");
const profileStatement = claimed("user_profile", "laurel.user_profile($3)");
const preferencesStatement = claimed("user_preferences", "laurel.user_preferences($3)");
const updatePreferencesStatement = claimed("update_user_preferences", "laurel.update_user_preferences($3, $4::jsonb)");

const wrappedStatement = claimed("user_wrapped", "laurel.user_wrapped($3, $4::int)");

const common = { api: "application", tag: "Users" } as const;

/** Users and their preferences (rules U1 to U4). */
export const userOperations: readonly Operation[] = [
  defineOperation({
    ...common,
    id: "users_create",
    summary: "Identifies the user of the body: adds it, or changes what the body gives.",
    method: "post",
    path: "/users",
    body: identifiedUserShape,
    bodyLimitBytes,
    answers: { 201: userAnswer },
    refusals: [400, 403],
    answer: async ({ body: { id, ...profile }, run }) => {
      const { body = "" } = await run(identifyStatement, [id, JSON.stringify(profile)]);
      return { status: 201, body };
    },
  }),
  defineOperation({
    ...common,
    id: "users_get",
    summary: "A user.",
    method: "get",
    path: "/users/:id",
    answers: { 200: userAnswer },
    refusals: [403, 404],
    answer: async ({ params, run }) => {
      const { body = "" } = await run(profileStatement, [params["id"]]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "users_identify",
    summary: "Identifies the user of the address: adds it, or changes what the body gives.",
    method: "put",
    path: "/users/:id",
    body: profileShape,
    bodyLimitBytes,
    answers: { 200: userAnswer },
    refusals: [400, 403],
    answer: async ({ params, body: profile, run }) => {
      const { body = "" } = await run(identifyStatement, [params["id"], JSON.stringify(profile)]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "users_update",
    summary: "Changes a user that exists.",
    method: "patch",
    path: "/users/:id",
    body: profileShape,
    bodyLimitBytes,
    answers: { 200: userAnswer },
    refusals: [400, 403, 404],
    answer: async ({ params, body: profile, run }) => {
      const { body = "" } = await run(updateStatement, [params["id"], JSON.stringify(profile)]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "users_get_preferences",
    summary: "A user's preferences.",
    method: "get",
    path: "/users/:id/preferences",
    answers: { 200: preferencesAnswer },
    refusals: [403, 404],
    answer: async ({ params, run }) => {
      const { body = "" } = await run(preferencesStatement, [params["id"]]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "users_update_preferences",
    summary: "Changes the given preferences of a user; the others stay.",
    method: "patch",
    path: "/users/:id/preferences",
    body: z.object({ notifications: notificationsShape.loose().nullish(), streak: streakPreferencesShape.loose().nullish() }).loose(),
    bodyLimitBytes,
    answers: { 200: preferencesAnswer },
    refusals: [400, 403, 404],
    answer: async ({ params, body: preferences, run }) => {
      const { body = "" } = await run(updatePreferencesStatement, [params["id"], JSON.stringify(preferences)]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "users_wrapped",
    summary: "A user's year in review: when it was most active, and what it did, earned and achieved then and in all of the year.",
    method: "get",
    path: "/users/:id/wrapped",
    query: z.object({ year: z.int().min(1).max(9999).optional() }),
    answers: { 200: wrappedAnswer },
    refusals: [403, 404],
    answer: async ({ params, query: { year }, run }) => {
      const { body = "" } = await run(wrappedStatement, [params["id"], year ?? null]);
      return { status: 200, body };
    },
  }),
];
