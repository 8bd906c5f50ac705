import type { IncomingMessage, ServerResponse } from "node:http";
import type { Logger } from "pino";
import type { z } from "zod";
import type { Pools } from "../postgres/pools.ts";
import { type JsonBody, readJsonBody, requireStorableText } from "./bodies.ts";
import { type Authenticate, type Caller, tenantOf } from "./callers.ts";
import type { SecretBox } from "../webhooks/secrets.ts";
import { singleHeader } from "./headers.ts";
import { parseQuery } from "./parameters.ts";
import { Refusal, toAnswer } from "./refusals.ts";
import { parseShape } from "./shapes.ts";

/** Which of the two APIs: they differ in who may call and in the database role that acts. */
export type Api = "application" | "admin";

/** One SQL call of one row with a column `body`, of JSON as text. `$1` and `$2` are taken; its own begin at `$3`. */
export interface Statement {
  readonly name: string;
  readonly text: string;
  /** What `$2` is: the user that the caller acts for, or the key that changes things. */
  readonly second: "user" | "actor";
}

/** One request, as an operation sees it. */
export interface Call {
  /** The path's parameters, decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly body: JsonBody;
  header: (name: string) => string | undefined;
  /** Seals secrets for the database; undefined when this server has no key to do so. */
  readonly secrets: SecretBox | undefined;
  /** Calls the database for the caller's tenant and user, in the caller's role: one round trip, one transaction. */
  run: (statement: Statement, values: readonly unknown[]) => Promise<Record<string, string>>;
}

/** A status and JSON text. */
export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** One operation of the contract. What it takes and gives is written in zod: checked by it, and published as OpenAPI. */
export interface Operation {
  readonly api: Api;
  /** The contract's operationId. */
  readonly id: string;
  /** The group it is listed under. */
  readonly tag: string;
  /** What it does, in one sentence. */
  readonly summary: string;
  readonly method: "get" | "post" | "put" | "patch" | "delete";
  /** As Express writes paths, below the API's own: `/users/:id`. */
  readonly path: string;
  /** Query parameters, as JSON types. */
  readonly query?: z.ZodObject;
  /** Request headers beyond those of every operation. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: z.ZodType;
  /** Bytes of the body that are read; undefined when there is none. */
  readonly bodyLimitBytes?: number;
  /** What it answers when it succeeds, by status. Held against every answer in tests. */
  readonly answers: Readonly<Record<number, z.ZodType>>;
  /** Statuses of refusals beyond 401 and 422. */
  readonly refusals?: readonly number[];
  answer: (call: Call) => Promise<Answer>;
}

/** A request with its query and body parsed. */
export interface ParsedCall<Query, Body> extends Pick<Call, "params" | "header" | "run" | "secrets"> {
  readonly query: Query;
  readonly body: Body;
}

/** Makes an operation whose `answer` gets query and body parsed by their shapes; what does not fit is refused with 422. */
export function defineOperation<Query extends z.ZodObject = z.ZodObject, Body extends z.ZodType = z.ZodUndefined>(
  definition: Omit<Operation, "answer" | "query" | "body"> & {
    readonly query?: Query;
    readonly body?: Body;
    readonly answer: (call: ParsedCall<z.output<Query>, z.output<Body>>) => Promise<Answer>;
  },
): Operation {
  const { query, body, answer } = definition;
  return {
    ...definition,
    answer: async ({ params, header, run, secrets, query: given, body: sent }) =>
      answer({
        params,
        header,
        run,
        secrets,
        query: (query === undefined ? {} : parseQuery(query, given)) as z.output<Query>,
        body: (body === undefined ? undefined : parseShape(body, sent.value)) as z.output<Body>,
      }),
  };
}

/** What answering needs. */
export interface OperationDependencies {
  readonly pools: Pools;
  readonly logger: Logger;
  readonly authenticate: Authenticate;
  readonly secrets: SecretBox | undefined;
  /** Told which operation a request is for, for metrics and logs. */
  readonly noteOperation: (request: IncomingMessage, id: string) => void;
}

/**
 * Makes a statement of one call of a function of Laurel's, which gets the claims that row-level security reads in
 * the same round trip. `offset 0` keeps the planner from doing the call before the claims.
 */
export function claimed(name: string, call: string): Statement {
  return statement(name, call, "user", "laurel.user_id");
}

/** The same for the admin API, whose callers act for nobody but themselves: the audit log shows their key (rule K5). */
export function administered(name: string, call: string): Statement {
  return statement(name, call, "actor", "laurel.actor");
}

function statement(name: string, call: string, second: Statement["second"], setting: string): Statement {
  return {
    name: `rest ${name}`,
    text: `select (${call})::text as body from (select set_config('laurel.tenant', $1, true), set_config('${setting}', $2, true) offset 0) claim`,
    second,
  };
}

const noBody: JsonBody = { text: "", value: undefined };

/** Answers a request with an operation, errors included; never throws. */
export async function serve(
  dependencies: OperationDependencies,
  operation: Operation,
  params: Readonly<Record<string, string>>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  dependencies.noteOperation(request, operation.id);
  try {
    const caller = await dependencies.authenticate(request);
    if (operation.api === "admin" && caller.kind !== "admin") {
      throw new Refusal(401, "The admin API takes admin keys only.");
    }
    const tenant = tenantOf(caller, request);
    for (const [name, value] of Object.entries(params)) requireStorableText(value, `The ${name} in the address`, name);
    const body =
      operation.bodyLimitBytes === undefined ? noBody : await readJsonBody(request, operation.bodyLimitBytes);
    const pool = poolOf(dependencies.pools, operation.api, caller);
    const claims = {
      user: caller.kind === "application" ? caller.userId : "",
      actor: caller.prefix,
    };
    const answer = await operation.answer({
      params,
      get query() {
        return queryOf(request);
      },
      body,
      header: (name) => singleHeader(request, name),
      secrets: dependencies.secrets,
      run: async ({ name, text, second }, values) => {
        const result = await pool.query<Record<string, string>>({ name, text, values: [tenant, claims[second], ...values] });
        const [row] = result.rows;
        if (row === undefined) throw new Error(`${name} returned no row`);
        return row;
      },
    });
    sendJson(response, answer.status, answer.body);
  } catch (error) {
    answerError(dependencies.logger, error, request, response);
  }
}

function poolOf(pools: Pools, api: Api, caller: Caller): Pools["user"] {
  if (caller.kind === "application") return pools.user;
  return api === "admin" ? pools.admin : pools.service;
}

function queryOf(request: IncomingMessage): URLSearchParams {
  const url = request.url ?? "";
  const mark = url.indexOf("?");
  const query = new URLSearchParams(mark < 0 ? "" : url.slice(mark + 1));
  for (const [name, value] of query) requireStorableText(value, `The parameter ${name.slice(0, 50)}`, name.slice(0, 50));
  return query;
}

/** Sends the answer to an error, and logs it when the fault is ours. */
export function answerError(logger: Logger, error: unknown, request: IncomingMessage, response: ServerResponse): void {
  const answer = toAnswer(error);
  if (answer.status >= 500) {
    // Not the path, which names users.
    logger.error({ err: error, method: request.method, requestId: response.getHeader("X-Request-Id") }, "a request failed");
  }
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  for (const [name, value] of Object.entries(answer.headers)) response.setHeader(name, value);
  sendJson(response, answer.status, JSON.stringify(answer.body));
}

/** Sends JSON text. Answers hold personal data: nothing on the way may keep them. */
export function sendJson(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, {
    "Content-Type": "application/json; charset=utf-8",
    "Content-Length": Buffer.byteLength(body),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
  });
  response.end(body);
}
