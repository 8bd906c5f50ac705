import type { IncomingMessage, ServerResponse } from "node:http";
import type { Logger } from "pino";
import type { Pools } from "../postgres/pools.ts";
import { type JsonBody, readJsonBody, requireStorableText } from "./bodies.ts";
import { type Authenticate, type Caller, tenantOf } from "./callers.ts";
import { singleHeader } from "./headers.ts";
import { Refusal, toAnswer } from "./refusals.ts";

/** Which of the two APIs: they differ in who may call and in the database role that acts. */
export type Api = "application" | "admin";

/** One SQL call of one row with a column `body`, of JSON as text. `$1` and `$2` are taken; its own begin at `$3`. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** One request, as an operation sees it. */
export interface Call {
  /** The path's parameters, decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly body: JsonBody;
  header: (name: string) => string | undefined;
  /** Calls the database for the caller's tenant and user, in the caller's role: one round trip, one transaction. */
  run: (statement: Statement, values: readonly unknown[]) => Promise<Record<string, string>>;
}

/** A status and JSON text. */
export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** One operation of the contract. */
export interface Operation {
  readonly api: Api;
  readonly method: "get" | "post" | "put" | "patch" | "delete";
  /** As Express writes paths, below the API's own: `/users/:id`. */
  readonly path: string;
  /** Bytes of the body that are read; undefined when there is none. */
  readonly bodyLimitBytes?: number;
  answer: (call: Call) => Promise<Answer>;
}

/** What answering needs. */
export interface OperationDependencies {
  readonly pools: Pools;
  readonly logger: Logger;
  readonly authenticate: Authenticate;
}

/**
 * Makes a statement of one call of a function of Laurel's, which gets the claims that row-level security reads in
 * the same round trip. `offset 0` keeps the planner from doing the call before the claims.
 */
export function claimed(name: string, call: string): Statement {
  return {
    name: `rest ${name}`,
    text: `select (${call})::text as body from (select set_config('laurel.tenant', $1, true), set_config('laurel.user_id', $2, true) offset 0) claim`,
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
  try {
    const caller = await dependencies.authenticate(request);
    if (operation.api === "admin" && caller.kind !== "admin") {
      throw new Refusal(401, "The admin API takes admin keys only.");
    }
    const tenant = tenantOf(caller, request);
    for (const [name, value] of Object.entries(params)) requireStorableText(value, `The ${name} in the address`);
    const body =
      operation.bodyLimitBytes === undefined ? noBody : await readJsonBody(request, operation.bodyLimitBytes);
    const pool = poolOf(dependencies.pools, operation.api, caller);
    const userId = caller.kind === "application" ? caller.userId : "";
    const answer = await operation.answer({
      params,
      get query() {
        return queryOf(request);
      },
      body,
      header: (name) => singleHeader(request, name),
      run: async ({ name, text }, values) => {
        const result = await pool.query<Record<string, string>>({ name, text, values: [tenant, userId, ...values] });
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
  for (const [name, value] of query) requireStorableText(value, `The parameter ${name.slice(0, 50)}`);
  return query;
}

/** Sends the answer to an error, and logs it when the fault is ours. */
export function answerError(logger: Logger, error: unknown, request: IncomingMessage, response: ServerResponse): void {
  const answer = toAnswer(error);
  if (answer.status >= 500) {
    const path = (request.url ?? "").replace(/\?.*$/s, "");
    logger.error({ err: error, method: request.method, path }, "a request failed");
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
