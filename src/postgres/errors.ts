import { DatabaseError, type Pool } from "pg";

/** One of Laurel's own errors, as `laurel_private.error_catalogue()` lists it. */
export interface ErrorCatalogueEntry {
  /** The SQLSTATE, of class LR. */
  readonly code: string;
  readonly httpStatus: number;
  /** A noun that code may branch on, in snake_case. */
  readonly name: string;
}

/** What a caller over HTTP is told. */
export interface HttpError {
  readonly status: number;
  readonly body: {
    readonly error: string;
    /** What of the request it is about, where that is one thing: `to`, `kinds[0].users`. */
    readonly field?: string;
  };
  /** Seconds after which trying again makes sense; only for 429 and 503. */
  readonly retryAfterSeconds?: number;
}

/**
 * Laurel's errors by SQLSTATE: the mirror of `laurel_private.error_catalogue()`, which a test holds it against.
 * The message that callers see comes with each error from the database.
 */
export const errorCatalogue: ReadonlyMap<string, ErrorCatalogueEntry> = new Map(
  [
    { code: "LR001", httpStatus: 404, name: "unknown_tenant" },
    { code: "LR002", httpStatus: 404, name: "unknown_user" },
    { code: "LR003", httpStatus: 404, name: "unknown_metric" },
    { code: "LR004", httpStatus: 404, name: "unknown_points_system" },
    { code: "LR005", httpStatus: 404, name: "unknown_award" },
    { code: "LR006", httpStatus: 404, name: "unknown_resource" },
    { code: "LR007", httpStatus: 404, name: "unknown_achievement" },
    { code: "LR008", httpStatus: 404, name: "unknown_leaderboard" },
    { code: "LR009", httpStatus: 404, name: "unknown_run" },
    { code: "LR010", httpStatus: 422, name: "invalid_user_id" },
    { code: "LR011", httpStatus: 422, name: "invalid_value" },
    { code: "LR012", httpStatus: 422, name: "invalid_attribute_keys" },
    { code: "LR013", httpStatus: 422, name: "invalid_attributes" },
    { code: "LR014", httpStatus: 422, name: "invalid_idempotency_key" },
    { code: "LR015", httpStatus: 422, name: "invalid_occurred_at" },
    { code: "LR016", httpStatus: 422, name: "invalid_time_zone" },
    { code: "LR017", httpStatus: 422, name: "invalid_profile" },
    { code: "LR018", httpStatus: 422, name: "invalid_points" },
    { code: "LR019", httpStatus: 422, name: "invalid_reason" },
    { code: "LR020", httpStatus: 422, name: "invalid_configuration" },
    { code: "LR021", httpStatus: 422, name: "duplicate_key" },
    { code: "LR022", httpStatus: 422, name: "invalid_preferences" },
    { code: "LR023", httpStatus: 422, name: "invalid_period" },
    { code: "LR024", httpStatus: 422, name: "no_levels" },
    { code: "LR025", httpStatus: 422, name: "invalid_completion" },
    { code: "LR026", httpStatus: 409, name: "changed_meanwhile" },
    { code: "LR028", httpStatus: 422, name: "invalid_rankings_request" },
    { code: "LR030", httpStatus: 422, name: "out_of_points" },
    { code: "LR040", httpStatus: 401, name: "unauthenticated" },
    { code: "LR041", httpStatus: 403, name: "forbidden" },
    { code: "LR050", httpStatus: 422, name: "ledger_is_append_only" },
    { code: "LR051", httpStatus: 422, name: "audit_log_is_append_only" },
    { code: "LR060", httpStatus: 422, name: "invalid_scenario" },
    { code: "LR061", httpStatus: 422, name: "simulation_too_large" },
  ].map((entry) => [entry.code, entry]),
);

const unavailable: HttpError = {
  status: 503,
  body: { error: "The database cannot be reached. Try again shortly." },
  retryAfterSeconds: 2,
};
const overloaded: HttpError = {
  status: 503,
  body: { error: "The database did not answer in time. Try again shortly." },
  retryAfterSeconds: 2,
};
const internal: HttpError = {
  status: 500,
  body: { error: "Something went wrong on our side. The server's log has the details." },
};

/** PostgreSQL's own errors by SQLSTATE, or by its class of two characters where no code is listed. */
const standardErrors: ReadonlyMap<string, HttpError> = new Map<string, HttpError>([
  ["08", unavailable], // connection exceptions
  ["57P", unavailable], // shutting down, crashed, starting up, not accepting connections
  ["53300", unavailable], // too many connections
  ["25006", unavailable], // read-only: a standby, during a switch-over
  ["57014", overloaded], // statement timeout
  ["55P03", overloaded], // lock timeout
  ["25P03", overloaded], // idle-in-transaction timeout
  ["40", overloaded], // deadlock or serialization failure: rolled back, may be sent again
  ["53", overloaded], // out of memory, disk or locks
  ["22007", { status: 422, body: { error: "A date or time is not valid." } }],
  ["22008", { status: 422, body: { error: "A date or time is out of range." } }],
  ["22P05", { status: 422, body: { error: "A text contains a character that cannot be stored." } }],
  ["22021", { status: 422, body: { error: "A text contains a character that cannot be stored." } }],
  ["54", { status: 422, body: { error: "A value is too large or too deeply nested." } }],
  ["42501", { status: 403, body: { error: "This key may not do that." } }],
  ["22", { status: 422, body: { error: "A value is out of range or not of the kind that is expected here." } }],
  ["23", { status: 422, body: { error: "The request contradicts what is stored already." } }],
]);

const lostConnectionCodes: ReadonlySet<string> = new Set([
  "ECONNREFUSED", "ECONNRESET", "ENOENT", "ENOTFOUND", "EAI_AGAIN", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH",
]);
/** pg has no codes for these. */
const lostConnectionMessages =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error)/;

/** What a broken constraint means, in words, and the column it is about where that is one: by `constraintName` (see there). */
export type ConstraintSentences = ReadonlyMap<string, { readonly sentence: string; readonly field: string | null }>;

/**
 * Reads the sentences that constraints and unique indexes carry as comments (view
 * laurel_private.constraint_sentences). They change with migrations only: read once, as the owner.
 */
export async function readConstraintSentences(pool: Pool): Promise<ConstraintSentences> {
  const found = await pool.query<{ holder: string; name: string; sentence: string; field: string | null }>(
    "select holder, name, sentence, field from laurel_private.constraint_sentences",
  );
  return new Map(found.rows.map(({ holder, name, sentence, field }) => [`${holder}.${name}`, { sentence, field }]));
}

/**
 * The field of the request that an error of Laurel's own is about, or that is missing, by its name in JSON; undefined
 * when it is about no one field. laurel_private.fail() gives it as the column.
 */
export function fieldOf({ code, column }: Pick<DatabaseError, "code" | "column">): string | undefined {
  if (column === undefined || column === "" || (code !== "23502" && !errorCatalogue.has(code ?? ""))) return undefined;
  return inCamelCase(column);
}

const inCamelCase = (column: string): string => column.replaceAll(/_([a-z])/g, (_all, letter: string) => letter.toUpperCase());

/** The constraint that an error is about, with the table or domain that holds it: `metrics.metric_keys_are_unique`. */
function constraintName({ table, dataType, constraint }: DatabaseError): string {
  return `${table ?? dataType ?? ""}.${constraint ?? ""}`;
}

/**
 * What to tell a caller about an error that a query threw. Laurel's own errors carry their message, broken
 * constraints their sentence where `sentences` are given; of all others the caller sees no text of PostgreSQL's.
 * Status 500 means a fault of ours, which the caller of this function logs.
 */
export function toHttpError(error: unknown, sentences?: ConstraintSentences): HttpError {
  if (error instanceof DatabaseError && error.code !== undefined) {
    const own = errorCatalogue.get(error.code);
    const field = fieldOf(error);
    const named = field === undefined ? {} : { field };
    if (own !== undefined) return { status: own.httpStatus, body: { error: error.message, ...named } };
    const { code } = error;
    const broken = code.startsWith("23") ? sentences?.get(constraintName(error)) : undefined;
    if (broken !== undefined) {
      return { status: 422, body: { error: broken.sentence, ...(broken.field === null ? named : { field: inCamelCase(broken.field) }) } };
    }
    return (
      standardErrors.get(code) ??
      standardErrors.get(code.slice(0, 3)) ??
      standardErrors.get(code.slice(0, 2)) ??
      internal
    );
  }
  return isLostConnection(error) ? unavailable : internal;
}

/** True when the database could not be reached, or the connection to it broke. */
export function isLostConnection(error: unknown): boolean {
  // Not instanceof: errors of Node's own may come from another realm, as under jest.
  if (typeof error !== "object" || error === null) return false;
  if ("errors" in error && Array.isArray(error.errors)) return error.errors.some(isLostConnection);
  const { code, message = "" } = error as { code?: string; message?: string };
  if (error instanceof DatabaseError) return standardErrors.get(code?.slice(0, 2) ?? "") === unavailable || code?.startsWith("57P") === true;
  return (code !== undefined && lostConnectionCodes.has(code)) || lostConnectionMessages.test(message);
}
