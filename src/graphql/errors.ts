import { randomUUID } from "node:crypto";
import { GraphQLError } from "graphql";
import { isSafeError } from "postgraphile/grafast";
import type { Logger } from "pino";
import { type ConstraintSentences, fieldOf, toHttpError } from "../postgres/errors.ts";

/**
 * What a GraphQL error's `extensions` hold: a code to branch on, what to do about it, what of the arguments it is about,
 * by REST's names, and what to quote to us.
 */
export type ErrorExtensions =
  | { readonly code: string; readonly hint?: string; readonly field?: string }
  /** A fault of ours; the log has the details under this ID. */
  | { readonly code: "INTERNAL"; readonly requestId: string };

/**
 * Decides what callers see of an error. GraphQL's own errors pass. Laurel's (class LR) keep message, code and hint; a
 * broken constraint is told by its comment; what else PostgreSQL refuses is told in general words. Everything else is
 * masked and logged.
 */
export function createErrorMask(dependencies: {
  readonly logger: Logger;
  readonly sentences: ConstraintSentences;
}): (error: GraphQLError) => GraphQLError {
  const { logger, sentences } = dependencies;
  return (error) => {
    const cause = error.originalError;
    if (cause === undefined || cause instanceof GraphQLError) return error;
    const known = isSafeError(cause)
      ? { message: cause.message, extensions: { code: "BAD_REQUEST", ...cause.extensions } }
      : describeDatabaseError(cause, sentences);
    if (known !== undefined) return replace(error, known.message, known.extensions);
    const requestId = randomUUID();
    logger.error({ err: cause, requestId, path: error.path }, "a GraphQL field failed");
    return replace(error, `Something went wrong. The server's log has the details under ${requestId}.`, {
      code: "INTERNAL",
      requestId,
    } satisfies ErrorExtensions);
  };
}

function describeDatabaseError(
  error: Error,
  sentences: ConstraintSentences,
): { readonly message: string; readonly extensions: ErrorExtensions } | undefined {
  const { code = "", hint, column } = error as { code?: string; hint?: string; column?: string };
  const field = fieldOf({ code, column });
  const named = field === undefined ? {} : { field };
  if (code.startsWith("LR")) {
    return { message: error.message, extensions: { code, ...(hint === undefined ? {} : { hint }), ...named } };
  }
  const { status, body } = toHttpError(error, sentences);
  // The catalogue's names for what a constraint or a grant says: duplicate_key, invalid_configuration, forbidden.
  if (status === 422) {
    const about = body.field === undefined ? named : { field: body.field };
    return { message: body.error, extensions: { code: code === "23505" ? "LR021" : "LR020", ...about } };
  }
  if (status === 403) return { message: body.error, extensions: { code: "LR041" } };
  if (status === 503) return { message: body.error, extensions: { code: "UNAVAILABLE" } };
  return undefined;
}

function replace(error: GraphQLError, message: string, extensions: Readonly<Record<string, unknown>>): GraphQLError {
  return new GraphQLError(message, {
    nodes: error.nodes ?? null,
    source: error.source ?? null,
    positions: error.positions ?? null,
    path: error.path ?? null,
    extensions: { ...extensions },
  });
}
