/** A file that cannot be imported at all. Its message is one line that says what to do. */
export class ImportError extends Error {
  override readonly name = "ImportError";
}

/** One line of the file as it goes into the database, which judges it. Numbers stay text: they are exact. */
export interface EventRow {
  readonly line: number;
  readonly metricKey: string;
  readonly userId: string;
  /** Null for the default, as for all below. */
  readonly value: string | null;
  readonly occurredAt: string | null;
  readonly idempotencyKey: string;
  readonly timeZone: string | null;
  readonly attributes: Readonly<Record<string, string>>;
}

/** Where each column of a file is; attributes by their keys. */
export interface EventColumns {
  readonly count: number;
  readonly places: ReadonlyMap<string, number>;
  readonly attributes: ReadonlyMap<string, number>;
}

/** The columns a file may have, besides `attributes.<key>`. */
export const knownColumns: readonly string[] = [
  "metric_key", "user_id", "value", "occurred_at", "idempotency_key", "tz",
];
const requiredColumns: readonly string[] = ["metric_key", "user_id"];
const attributePrefix = "attributes.";

/** Reads the header. Throws `ImportError` for a column that is unknown, there twice, or missing. */
export function readHeader(fields: readonly string[]): EventColumns {
  const places = new Map<string, number>();
  const attributes = new Map<string, number>();
  for (const [index, name] of fields.entries()) {
    const isAttribute = name.startsWith(attributePrefix) && name.length > attributePrefix.length;
    if (!isAttribute && !knownColumns.includes(name)) {
      throw new ImportError(
        `line 1: there is no column ${JSON.stringify(name.slice(0, 100))}: a header has ${knownColumns.join(", ")} and attributes.<key>, of which ${requiredColumns.join(" and ")} are required`,
      );
    }
    const [target, key] = isAttribute ? [attributes, name.slice(attributePrefix.length)] : [places, name];
    if (target.has(key)) throw new ImportError(`line 1: the column ${name} is there twice`);
    target.set(key, index);
  }
  const missing = requiredColumns.filter((name) => !places.has(name));
  if (missing.length > 0) throw new ImportError(`line 1: the header lacks ${missing.join(" and ")}`);
  return { count: fields.length, places, attributes };
}

/**
 * Reads a record. Returns the reason when it cannot be one line of events, whatever the database says: the number of fields,
 * characters that are none, and what PostgreSQL would read in a way that nobody means (`infinity`, `yesterday`).
 * `fileHash` makes the idempotency key of a line without one.
 */
export function readRow(
  columns: EventColumns,
  record: { readonly line: number; readonly fields: readonly string[] },
  fileHash: string,
): EventRow | string {
  const { line, fields } = record;
  if (fields.length !== columns.count) {
    return `The line has ${fields.length} fields, and the header ${columns.count}.`;
  }
  for (const field of fields) {
    if (field.includes("\0")) return "The line has a NUL character.";
    if (field.includes("\uFFFD")) return "The line has bytes that are not UTF-8.";
  }
  const cell = (name: string): string => fields[columns.places.get(name) ?? -1] ?? "";
  const value = cell("value");
  if (value !== "" && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?$/i.test(value)) {
    return `The value is not a number: ${quote(value)}.`;
  }
  const occurredAt = cell("occurred_at");
  if (occurredAt !== "" && !/^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(Z|[+-]\d\d(:?\d\d)?))?)?$/i.test(occurredAt)) {
    return `The time is not of the form 2026-01-31T12:00:00Z: ${quote(occurredAt)}.`;
  }
  const attributes: [string, string][] = [];
  for (const [key, index] of columns.attributes) {
    const text = fields[index] ?? "";
    if (text !== "") attributes.push([key, text]);
  }
  return {
    line,
    metricKey: cell("metric_key"),
    userId: cell("user_id"),
    value: orNull(value),
    occurredAt: orNull(occurredAt),
    idempotencyKey: orNull(cell("idempotency_key")) ?? `import:${fileHash}:${line}`,
    timeZone: orNull(cell("tz")),
    attributes: Object.fromEntries(attributes),
  };
}

function orNull(text: string): string | null {
  return text === "" ? null : text;
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}
