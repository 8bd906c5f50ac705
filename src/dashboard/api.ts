import { session, type Session, signOut } from "./session.ts";

/** What the server refused, in its own words, or that it could not be reached. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** The HTTP status; 0 when there was no answer. GraphQL's refusals count as 422, and as 409 what was changed meanwhile. */
  readonly status: number;
  /** What of the request it is about, by the API's name: `to`, `kinds[0].users`; undefined when no one thing. */
  readonly field: string | undefined;

  constructor(status: number, message: string, field?: string) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/** Calls REST. Answers have the shapes that src/rest/answers.ts gives them, and tests there hold them to it. */
export async function call<T>(method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T> {
  return (await request(method, path, { body })) as T;
}

/** Calls REST with headers of the call's own. */
export const send = (method: "POST", path: string, body: unknown, headers: Readonly<Record<string, string>>): Promise<unknown> =>
  request(method, path, { body, headers });

/** Asks GraphQL, and answers its `data`. Documents are held against the schema by a test. */
export async function ask<T>(document: string, variables: Readonly<Record<string, unknown>> = {}): Promise<T> {
  const { data, errors } = (await request("POST", "/graphql", { body: { query: document, variables } })) as GraphqlAnswer<T>;
  const [error] = errors ?? [];
  if (error !== undefined) throw refusalOf(error);
  if (data === undefined || data === null) throw new ApiError(502, "The server's answer was empty. Try again shortly.");
  return data;
}

interface GraphqlAnswer<T> {
  readonly data?: T | null;
  readonly errors?: readonly GraphqlError[];
}
interface GraphqlError {
  readonly message: string;
  readonly extensions?: { readonly code?: string; readonly hint?: string; readonly field?: string };
}

const refusalOf = ({ message, extensions }: GraphqlError): ApiError =>
  new ApiError(extensions?.code === "LR026" ? 409 : 422, extensions?.hint === undefined || message.includes(extensions.hint) ? message : `${message} ${extensions.hint}`, extensions?.field);

/** A page of a GraphQL connection. */
export interface Page<T> {
  readonly nodes: readonly T[];
  readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
}

/** What one page of the lists below holds, and the most that a list shows: beyond that one searches. */
const mostRows = 1_000;

/** Reads a connection page by page. `document` takes `$after` and has the connection as its one field. */
export async function askAll<T>(document: string, variables: Readonly<Record<string, unknown>> = {}): Promise<T[]> {
  const rows: T[] = [];
  let after: string | null = null;
  do {
    const answer: Readonly<Record<string, Page<T>>> = await ask(document, { ...variables, after });
    const [page] = Object.values(answer);
    if (page === undefined) break;
    rows.push(...page.nodes);
    after = page.pageInfo.hasNextPage ? page.pageInfo.endCursor : null;
  } while (after !== null && rows.length < mostRows);
  return rows;
}

interface Issue {
  readonly message: string;
  readonly field?: string;
}

interface Changed<T> {
  readonly created?: readonly T[];
  readonly updated?: readonly T[];
  readonly issues: readonly Issue[];
}

/** Creates one item through a bulk operation of the admin API; throws the item's issue. */
export async function createOne<T>(path: string, item: object): Promise<T> {
  return one(await call<Changed<T>>("POST", path, [item]));
}

/** Changes one item; with `unchangedSince`, unless somebody else did since: status 409. */
export async function updateOne<T>(path: string, item: object): Promise<T> {
  return one(await call<Changed<T>>("PATCH", path, [item]));
}

/** Deletes one item by its ID. */
export async function deleteOne(path: string, id: string): Promise<void> {
  const { issues } = await call<Changed<never>>("DELETE", `${path}?ids=${encodeURIComponent(id)}`);
  if (issues[0] !== undefined) throw refusalOfItem(issues[0]);
}

function one<T>({ created, updated, issues }: Changed<T>): T {
  const [done] = created ?? updated ?? [];
  if (done === undefined) throw refusalOfItem(issues[0] ?? { message: "The server did nothing, and did not say why." });
  return done;
}

const refusalOfItem = ({ message, field }: Issue): ApiError => new ApiError(field === "unchangedSince" ? 409 : 422, message, field);

/** Whether a key may sign in: only admin keys reach the admin API. Throws what the server says otherwise. */
export async function tryKey(candidate: Session): Promise<void> {
  await request("GET", "/admin/v1/tenants?limit=1", { as: candidate });
}

interface RequestOptions {
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Whose key to send; the session's unless told. */
  readonly as?: Session | undefined;
}

async function request(method: string, path: string, { body, headers: own = {}, as = session.get() }: RequestOptions): Promise<unknown> {
  const headers: Record<string, string> = { Accept: "application/json", ...own };
  // Headers carry bytes: what is not Latin-1 goes as UTF-8, the way the server reads it.
  if (as !== undefined) {
    headers["X-API-KEY"] = asBytes(as.key);
    if (as.tenant !== "") headers["Tenant-ID"] = asBytes(as.tenant);
  }
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  } catch {
    throw new ApiError(0, "Laurel cannot be reached. Nothing was lost here: try again when it is back.");
  }
  const answer: unknown = await response.json().catch(() => undefined);
  if (response.ok) return answer;
  const { error, field, errors } = (answer ?? {}) as { error?: unknown; field?: unknown; errors?: readonly GraphqlError[] };
  const message = typeof error === "string" ? error : errors?.[0]?.message ?? `The server answered ${response.status}.`;
  if (response.status === 401 && as === session.get() && as !== undefined) signOut(`You were signed out: ${message}`);
  throw new ApiError(response.status, message, typeof field === "string" ? field : undefined);
}

const asBytes = (text: string): string => String.fromCharCode(...new TextEncoder().encode(text));
