import { z } from "zod";
import { deletedAnswer, issueAnswer } from "../answers.ts";
import { batchBodyLimitBytes } from "../bodies.ts";
import { administered, type Answer, type Call, defineOperation, type Operation } from "../operations.ts";
import { idsQuery, mostItems, pageQuery, uuidParam } from "../parameters.ts";
import { Refusal } from "../refusals.ts";
import { checkShape, type Shape, unchangedSince } from "../shapes.ts";

/** What the admin API treats as lists of items: the database does all of them by name. */
export type ResourceName =
  | "attributes" | "metrics" | "achievements" | "leaderboards" | "points" | "levels" | "boosts" | "triggers" | "tenants"
  | "webhooks" | "adjustments" | "application-api-keys" | "admin-api-keys" | "audit-log";

/**
 * A kind of configuration with the same five operations. The database does all of them by its name
 * (migrations/fixtures/access/change_configuration.sql). Shapes hold what JSON types are allowed; every rule is
 * the database's.
 */
export interface Resource {
  readonly name: ResourceName;
  /** What the contract's operationIds begin with. */
  readonly idPrefix: string;
  readonly tag: string;
  readonly path: string;
  /** In the plural. */
  readonly noun: string;
  readonly toCreate: z.ZodType<object>;
  readonly toUpdate: z.ZodObject;
  readonly shown: z.ZodType;
}

/** One thing that keeps an item from being done, as the contract has it (with `level` and `reason` for older clients). */
export type Issue = z.output<typeof issueAnswer>;

const changeStatement = administered(
  "change_configuration",
  "laurel_private.change_configuration($3, $4, $5::uuid, $6::jsonb)",
);
const listStatement = administered("list_configuration", "laurel_private.list_configuration($3, $4::uuid, $5::int, $6::int)");
const getStatement = administered("get_configuration", "laurel_private.get_configuration($3, $4::uuid, $5::uuid)");

/** The five operations of a resource. */
export function operationsOf({ name, idPrefix, tag, path, noun, toCreate, toUpdate, shown }: Resource): readonly Operation[] {
  const isNested = path.includes(":systemId");
  const common = { api: "admin", tag, refusals: isNested ? [404] : [] } as const;
  const changes = toUpdate.extend({ unchangedSince });
  return [
    {
      ...common,
      id: `${idPrefix}_create`,
      summary: `Creates ${noun}. An item that breaks a rule becomes an issue; the others are created.`,
      method: "post",
      path,
      body: z.array(toCreate).min(1).max(mostItems),
      bodyLimitBytes: batchBodyLimitBytes,
      answers: { 201: createdAnswer(shown), 200: createdAnswer(shown) },
      answer: async (call) => answerCreated(await change(call, "create", name, readItems(call, toCreate))),
    },
    {
      ...common,
      id: `${idPrefix}_update`,
      summary: `Changes the given properties of ${noun}, each named by its id. With unchangedSince, the \`updated\` you know, an item that was changed since becomes an issue.`,
      method: "patch",
      path,
      body: z.array(changes).min(1).max(mostItems),
      bodyLimitBytes: batchBodyLimitBytes,
      answers: { 200: z.object({ updated: z.array(shown), issues: z.array(issueAnswer) }) },
      answer: async (call) => {
        const { done, issues } = await change(call, "update", name, readItems(call, changes));
        return { status: 200, body: JSON.stringify({ updated: done, issues }) };
      },
    },
    deleteOperation({ ...common, id: `${idPrefix}_delete`, summary: `Deletes ${noun}.`, path }, name),
    listOperation({ ...common, id: `${idPrefix}_list`, summary: `Lists ${noun}.`, path }, name, shown),
    {
      ...common,
      id: `${idPrefix}_get`,
      summary: `One of the ${noun}.`,
      method: "get",
      path: `${path}/:id`,
      answers: { 200: shown },
      refusals: [404],
      answer: (call) => getOne(call, name),
    },
  ];
}

type Described = Pick<Operation, "api" | "id" | "tag" | "summary" | "path"> & { readonly refusals?: readonly number[] };

/** Lists a kind of thing, page by page. */
export function listOperation(described: Described, name: ResourceName, shown: z.ZodType): Operation {
  return defineOperation({
    ...described,
    method: "get",
    query: pageQuery,
    answers: { 200: z.array(shown) },
    answer: async ({ params, query: { limit, skip }, run }) => {
      const { body = "" } = await run(listStatement, [name, systemOf(params), limit, skip]);
      return { status: 200, body };
    },
  });
}

/** Deletes things by their IDs. */
export function deleteOperation(described: Described, name: ResourceName): Operation {
  return defineOperation({
    ...described,
    method: "delete",
    query: idsQuery,
    answers: { 200: deletedAnswer },
    answer: async ({ query: { ids }, ...call }) => {
      const isId = (text: string): boolean => z.guid().safeParse(text).success;
      const { done, issues } = await change(call, "delete", name, {
        sound: ids.filter(isId).map((given) => ({ item: { id: given } })),
        issues: ids.filter((given) => !isId(given)).map((given) => issueOf("id must be a UUID.", { id: given, field: "id" })),
      });
      return { status: 200, body: JSON.stringify({ deleted: done, issues }) };
    },
  });
}

/** What creating answers: what was created, and what was wrong with the others. */
export const createdAnswer = (shown: z.ZodType): z.ZodType =>
  z.object({ created: z.array(shown), issues: z.array(issueAnswer) });

/** 201 when something was created, 200 when nothing was. */
export const answerCreated = ({ done, issues }: Changed): Answer =>
  ({ status: done.length > 0 ? 201 : 200, body: JSON.stringify({ created: done, issues }) });

/** The items of a request: those that may go to the database with their place, and what is wrong with the others. */
export interface Items {
  readonly sound: readonly { readonly index?: number; readonly item: object }[];
  readonly issues: readonly Issue[];
}

/** Reads the body as a list of items, each judged by itself. */
export function readItems({ body }: Pick<Call, "body">, shape: Shape<object>): Items {
  const { value } = body;
  if (!Array.isArray(value) || value.length === 0 || value.length > mostItems) {
    throw new Refusal(422, `The body must be an array of 1 to ${mostItems} objects.`);
  }
  const sound: { index: number; item: object }[] = [];
  const issues: Issue[] = [];
  for (const [index, given] of (value as unknown[]).entries()) {
    const checked = checkShape(shape, given);
    if ("value" in checked) sound.push({ index, item: checked.value });
    else issues.push(issueOf(checked.fault, { index, ...idOf(given), field: checked.field }));
  }
  return { sound, issues };
}

function idOf(item: unknown): { id?: string } {
  const { id: given } = (item ?? {}) as { id?: unknown };
  return typeof given === "string" ? { id: given } : {};
}

/** An issue that keeps an item from being done. */
export function issueOf(message: string, { field, ...about }: { index?: number; id?: string; field?: string | undefined }): Issue {
  return { ...about, ...(field === undefined ? {} : { field }), severity: "error", level: "error", message, reason: message };
}

/** What was done, in the request's order, and all issues. */
export interface Changed {
  readonly done: readonly object[];
  readonly issues: readonly Issue[];
}

/** Changes what is sound in one transaction. */
export async function change(
  { params, run }: Pick<Call, "params" | "run">,
  operation: "create" | "update" | "delete",
  name: ResourceName,
  { sound, issues }: Items,
): Promise<Changed> {
  const { body = "" } = await run(changeStatement, [operation, name, systemOf(params), JSON.stringify(sound)]);
  const found = JSON.parse(body) as { done: object[]; issues: Issue[] };
  return {
    done: found.done,
    issues: [...issues, ...found.issues].sort((a, b) => (a.index ?? 0) - (b.index ?? 0)),
  };
}

async function getOne({ params, run }: Call, name: ResourceName): Promise<Answer> {
  const { body = "" } = await run(getStatement, [name, systemOf(params), uuidParam(params, "id")]);
  return { status: 200, body };
}

function systemOf(params: Call["params"]): string | null {
  return params["systemId"] === undefined ? null : uuidParam(params, "systemId");
}
