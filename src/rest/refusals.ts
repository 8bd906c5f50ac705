import { type HttpError, toHttpError } from "../postgres/errors.ts";

interface RefusalOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly field?: string | undefined;
}

/** A request that is refused before the database sees it. The message is what the caller reads. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;
  /** Headers that belong to the answer, such as Allow. */
  readonly headers: Readonly<Record<string, string>>;
  /** What of the request it is about: `to`, `kinds[0].users`; undefined when no one thing. */
  readonly field: string | undefined;

  constructor(status: number, message: string, { headers = {}, field }: RefusalOptions = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
    this.field = field;
  }
}

/** What to answer for an error, whoever threw it: a refusal, Express' router, or the database. */
export function toAnswer(error: unknown): HttpError & { readonly headers: Readonly<Record<string, string>> } {
  if (error instanceof Refusal) {
    return { status: error.status, body: { error: error.message, ...(error.field === undefined ? {} : { field: error.field }) }, headers: error.headers };
  }
  if (error instanceof URIError) {
    return { status: 400, body: { error: "The address is not valid: its percent-encoding cannot be read." }, headers: {} };
  }
  const answer = toHttpError(error);
  return {
    ...answer,
    headers: answer.retryAfterSeconds === undefined ? {} : { "Retry-After": String(answer.retryAfterSeconds) },
  };
}
