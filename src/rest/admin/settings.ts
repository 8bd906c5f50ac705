import { z } from "zod";
import { environmentAnswer, settingsAnswer } from "../answers.ts";
import { bodyLimitBytes } from "../bodies.ts";
import { administered, defineOperation, type Operation } from "../operations.ts";

const readStatement = administered("settings_as_json", "laurel_private.settings_as_json()");
const updateStatement = administered("update_settings", "laurel_private.update_settings($3::jsonb)");
const environmentsStatement = administered("list_environments", "laurel_private.list_environments()");

const image = z.object({ url: z.string() }).nullable().optional();
/** What is absent stays; only images can be taken away, by null. Which values are fine is the database's to say. */
const settings = z.object({
  branding: z.object({
    appName: z.string().optional(),
    appUrl: z.string().optional(),
    brandColor: z.string().optional(),
    font: settingsAnswer.shape.branding.shape.font.optional(),
    logo: image,
    appIcon: image,
  }).optional(),
  experimentation: z.object({ controlRatio: z.int32().optional(), userActivationWindow: z.int32().optional() }).optional(),
  aggregationPeriod: settingsAnswer.shape.aggregationPeriod.optional(),
});

const common = { api: "admin", tag: "Settings" } as const;

/** What is set for all users of a tenant, and which installation this is. */
export const settingsOperations: readonly Operation[] = [
  defineOperation({
    ...common,
    id: "admin_settings_get",
    summary: "The tenant's settings.",
    method: "get",
    path: "/settings",
    answers: { 200: settingsAnswer },
    answer: async ({ run }) => {
      const { body = "" } = await run(readStatement, []);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "admin_settings_update",
    summary: "Changes the given settings; the others stay. Null takes an image away.",
    method: "patch",
    path: "/settings",
    body: settings,
    bodyLimitBytes,
    answers: { 200: settingsAnswer },
    refusals: [400],
    answer: async ({ body: given, run }) => {
      const { body = "" } = await run(updateStatement, [JSON.stringify(given)]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "admin_environments_list",
    summary: "The installation that answers.",
    method: "get",
    path: "/environments",
    answers: { 200: z.array(environmentAnswer) },
    answer: async ({ run }) => {
      const { body = "" } = await run(environmentsStatement, []);
      return { status: 200, body };
    },
  }),
];
