import { z } from "zod";
import { batchBodyLimitBytes } from "./bodies.ts";
import { type Answer, type Call, claimed, type Operation } from "./operations.ts";
import { idsParameter, mostItems, wholeParameter } from "./parameters.ts";
import { Refusal } from "./refusals.ts";
import { checkShape, type Shape, wholeNumber } from "./shapes.ts";

/**
 * A kind of configuration with the same five operations. The database does all of them by its name, which is also
 * the last part of its path (migrations/fixtures/access/change_configuration.sql). Shapes hold what JSON types
 * are allowed; every rule is the database's.
 */
interface Resource {
  readonly name: "attributes" | "metrics" | "points" | "levels" | "boosts" | "triggers";
  readonly path: string;
  readonly toCreate: Shape<object>;
  readonly toUpdate: Shape<object>;
}

/** One thing that keeps an item from being done, as the contract has it (with `level` and `reason` for older clients). */
interface Issue {
  readonly index?: number;
  readonly id?: string;
  readonly severity: "error";
  readonly level: "error";
  readonly message: string;
  readonly reason: string;
}

const id = z.guid();
const attributeFilter = z.array(z.object({ attributeId: id, attributeValue: z.string() })).nullish();
const badge = z.object({ url: z.string() }).nullish();
const rounding = z.enum(["down", "up", "nearest"]).nullish();

const level = z.object({
  name: z.string(),
  key: z.string(),
  points: wholeNumber,
  description: z.string().nullish(),
  badge,
});
const boost = z.object({
  userId: z.string().nullish(),
  name: z.string(),
  start: z.iso.date(),
  end: z.iso.date().nullish(),
  multiplier: z.number(),
  rounding,
  userAttributes: attributeFilter,
});
const triggerType = z.enum(["metric", "achievement", "streak", "time", "user_creation"]);
const trigger = z.object({
  type: triggerType,
  points: wholeNumber,
  status: z.enum(["active", "inactive"]).nullish(),
  userAttributes: attributeFilter,
  metricId: id.nullish(),
  metricThreshold: wholeNumber.nullish(),
  eventAttributes: attributeFilter,
  achievementId: id.nullish(),
  streakLength: wholeNumber.nullish(),
  timeUnit: z.enum(["hours", "days"]).nullish(),
  timeInterval: wholeNumber.nullish(),
  blockIfOutOfPoints: z.boolean().nullish(),
});
const system = z.object({
  name: z.string(),
  key: z.string(),
  description: z.string().nullish(),
  badge,
  maxPoints: wholeNumber.nullish(),
  levels: z.array(level).max(mostItems).nullish(),
  boosts: z.array(boost).max(mostItems).nullish(),
  triggers: z.array(trigger).max(mostItems).nullish(),
});
const metric = z.object({
  name: z.string(),
  key: z.string(),
  unitType: z.enum(["number", "currency"]).nullish(),
  units: z.string().nullish(),
});
const attribute = z.object({ name: z.string(), key: z.string(), type: z.enum(["user", "event"]) });

const resources: readonly Resource[] = [
  {
    name: "attributes",
    path: "/attributes",
    toCreate: attribute,
    toUpdate: z.object({ id, name: z.string().nullish() }),
  },
  {
    name: "metrics",
    path: "/metrics",
    toCreate: metric,
    toUpdate: metric.omit({ key: true }).partial().extend({ id }),
  },
  {
    name: "points",
    path: "/points",
    toCreate: system,
    toUpdate: system.omit({ key: true, levels: true, boosts: true, triggers: true }).partial().extend({ id }),
  },
  {
    name: "levels",
    path: "/points/:systemId/levels",
    toCreate: level,
    toUpdate: level.omit({ key: true }).partial().extend({ id }),
  },
  {
    name: "boosts",
    path: "/points/:systemId/boosts",
    toCreate: boost,
    toUpdate: boost.omit({ userId: true }).partial().extend({ id }),
  },
  {
    name: "triggers",
    path: "/points/:systemId/triggers",
    toCreate: trigger,
    toUpdate: trigger.partial().extend({ id }),
  },
];

const changeStatement = claimed(
  "change_configuration",
  "laurel_private.change_configuration($3, $4, $5::uuid, $6::jsonb)",
);
const listStatement = claimed("list_configuration", "laurel_private.list_configuration($3, $4::uuid, $5::int, $6::int)");
const getStatement = claimed("get_configuration", "laurel_private.get_configuration($3, $4::uuid, $5::uuid)");

/** The admin API's operations: create, list, get, update and delete of every resource. */
export const adminOperations: readonly Operation[] = resources.flatMap(operationsOf);

function operationsOf(resource: Resource): readonly Operation[] {
  const { name, path, toCreate, toUpdate } = resource;
  return [
    {
      api: "admin",
      method: "post",
      path,
      bodyLimitBytes: batchBodyLimitBytes,
      answer: async (call) => {
        const { done, issues } = await change(call, "create", name, readItems(call, toCreate));
        return { status: done.length > 0 ? 201 : 200, body: JSON.stringify({ created: done, issues }) };
      },
    },
    {
      api: "admin",
      method: "patch",
      path,
      bodyLimitBytes: batchBodyLimitBytes,
      answer: async (call) => {
        const { done, issues } = await change(call, "update", name, readItems(call, toUpdate));
        return { status: 200, body: JSON.stringify({ updated: done, issues }) };
      },
    },
    {
      api: "admin",
      method: "delete",
      path,
      answer: async (call) => {
        const { done, issues } = await change(call, "delete", name, readIds(call));
        return { status: 200, body: JSON.stringify({ deleted: done, issues }) };
      },
    },
    { api: "admin", method: "get", path, answer: (call) => list(call, name) },
    { api: "admin", method: "get", path: `${path}/:id`, answer: (call) => getOne(call, name) },
  ];
}

/** The items of a request: those that may go to the database with their place, and what is wrong with the others. */
interface Items {
  readonly sound: readonly { readonly index?: number; readonly item: object }[];
  readonly issues: readonly Issue[];
}

function readItems({ body }: Call, shape: Shape<object>): Items {
  const { value } = body;
  if (!Array.isArray(value) || value.length === 0 || value.length > mostItems) {
    throw new Refusal(422, `The body must be an array of 1 to ${mostItems} objects.`);
  }
  const sound: { index: number; item: object }[] = [];
  const issues: Issue[] = [];
  for (const [index, given] of (value as unknown[]).entries()) {
    const checked = checkShape(shape, given);
    if ("value" in checked) sound.push({ index, item: checked.value });
    else issues.push(issueOf(checked.fault, { index, ...idOf(given) }));
  }
  return { sound, issues };
}

function readIds({ query }: Call): Items {
  const ids = idsParameter(query);
  const isId = (text: string): boolean => id.safeParse(text).success;
  return {
    sound: ids.filter(isId).map((given) => ({ item: { id: given } })),
    issues: ids.filter((given) => !isId(given)).map((given) => issueOf("id must be a UUID.", { id: given })),
  };
}

function idOf(item: unknown): { id?: string } {
  const { id: given } = (item ?? {}) as { id?: unknown };
  return typeof given === "string" ? { id: given } : {};
}

function issueOf(message: string, about: { index?: number; id?: string }): Issue {
  return { ...about, severity: "error", level: "error", message, reason: message };
}

/** Changes what is sound in one transaction, and returns what was done and all issues, in the request's order. */
async function change(
  call: Call,
  operation: "create" | "update" | "delete",
  resource: Resource["name"],
  { sound, issues }: Items,
): Promise<{ done: readonly unknown[]; issues: readonly Issue[] }> {
  const { body = "" } = await call.run(changeStatement, [operation, resource, systemOf(call), JSON.stringify(sound)]);
  const found = JSON.parse(body) as { done: unknown[]; issues: Issue[] };
  return {
    done: found.done,
    issues: [...issues, ...found.issues].sort((a, b) => (a.index ?? 0) - (b.index ?? 0)),
  };
}

async function list(call: Call, resource: Resource["name"]): Promise<Answer> {
  const most = wholeParameter(call.query, "limit", { least: 1, most: 100, otherwise: 10 });
  const skipped = wholeParameter(call.query, "skip", { least: 0, most: 2_147_483_647, otherwise: 0 });
  const { body = "" } = await call.run(listStatement, [resource, systemOf(call), most, skipped]);
  return { status: 200, body };
}

async function getOne(call: Call, resource: Resource["name"]): Promise<Answer> {
  const { body = "" } = await call.run(getStatement, [resource, systemOf(call), uuidParam(call, "id")]);
  return { status: 200, body };
}

function systemOf(call: Call): string | null {
  return call.params["systemId"] === undefined ? null : uuidParam(call, "systemId");
}

function uuidParam({ params }: Call, name: string): string {
  const given = params[name] ?? "";
  if (!id.safeParse(given).success) throw new Refusal(422, `The ${name} in the address must be a UUID.`);
  return given;
}
