import { z } from "zod";
import { generateApiKey } from "../../api_keys.ts";
import { batchBodyLimitBytes } from "../bodies.ts";
import type { Call, Operation } from "../operations.ts";
import { mostItems } from "../parameters.ts";
import { answerCreated, change, createdAnswer, deleteOperation, listOperation, readItems } from "./resources.ts";

const applicationKey = z.object({ userId: z.string(), name: z.string().max(255).nullish() });
const adminKey = z.object({ name: z.string().max(255) });

const shownKey = z.object({
  id: z.guid(),
  prefix: z.string(),
  name: z.string(),
  created: z.iso.datetime(),
  lastUsed: z.iso.datetime().nullable(),
  userId: z.string().optional(),
});
const createdKey = shownKey.extend({ key: z.string() });

const kinds = [
  {
    name: "application-api-keys",
    idPrefix: "admin_application_api_keys",
    noun: "application API keys, each of which acts for one user",
    item: applicationKey,
  },
  { name: "admin-api-keys", idPrefix: "admin_admin_api_keys", noun: "admin API keys, which reach everything", item: adminKey },
] as const;

/** Keys (rule K1): made and revoked here, shown once. */
export const apiKeyOperations: readonly Operation[] = kinds.flatMap(({ name, idPrefix, noun, item }): Operation[] => {
  const common = { api: "admin", tag: "API keys", path: `/${name}`, refusals: [403] } as const;
  return [
    {
      ...common,
      id: `${idPrefix}_create`,
      summary: `Creates ${noun}. The key itself is shown this once.`,
      method: "post",
      body: z.array(item).min(1).max(mostItems),
      bodyLimitBytes: batchBodyLimitBytes,
      answers: { 201: createdAnswer(createdKey), 200: createdAnswer(createdKey) },
      answer: (call) => createKeys(call, name, item),
    },
    deleteOperation({ ...common, id: `${idPrefix}_delete`, summary: `Revokes ${noun}. They stop working within five seconds.` }, name),
    listOperation({ ...common, id: `${idPrefix}_list`, summary: `Lists ${noun}, without their secrets. An extension of ours.` }, name, shownKey),
  ];
});

/** The secrets are made here and never reach the database, which keeps their hashes. */
async function createKeys(call: Call, name: (typeof kinds)[number]["name"], shape: z.ZodType<object>) {
  const { sound, issues } = readItems(call, shape);
  const secrets = new Map<string, string>();
  const withKeys = sound.map(({ index, item }) => {
    const { prefix, sha256, secret } = generateApiKey();
    secrets.set(prefix, secret);
    return { ...(index === undefined ? {} : { index }), item: { ...item, prefix, sha256: sha256.toString("hex") } };
  });
  const { done, issues: all } = await change(call, "create", name, { sound: withKeys, issues });
  return answerCreated({
    done: done.map((created) => ({ ...created, key: secrets.get((created as { prefix: string }).prefix) })),
    issues: all,
  });
}
