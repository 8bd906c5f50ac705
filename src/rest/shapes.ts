import { z } from "zod";
import { Refusal } from "./refusals.ts";

/** What a shape does not name is ignored, so that a resource that was read can be sent back as it is. */
export type Shape<T> = z.ZodType<T>;

/** Parses what a caller sent; a value of another shape is refused with 422 and a sentence. */
export function parseShape<T>(shape: Shape<T>, value: unknown): T {
  const found = checkShape(shape, value);
  if ("fault" in found) throw new Refusal(422, found.fault, { field: found.field });
  return found.value;
}

/** As `parseShape`, but returns the sentence, for batches where one faulty item does not refuse the others. */
export function checkShape<T>(shape: Shape<T>, value: unknown): { readonly value: T } | { readonly fault: string; readonly field: string | undefined } {
  const parsed = shape.safeParse(value, { error: describeIssue });
  if (parsed.success) return { value: parsed.data };
  const [issue] = parsed.error.issues;
  if (issue === undefined) return { fault: "It is not valid.", field: undefined };
  return { fault: `${pathOf(issue.path)} ${issue.message}.`, field: issue.path.length === 0 ? undefined : fieldAt(issue.path) };
}

function pathOf(path: readonly PropertyKey[]): string {
  const [first, ...inner] = path;
  if (first === undefined) return "It";
  if (typeof first === "number") return inner.length === 0 ? `Item ${first}` : `Item ${first}: ${pathOf(inner)}`;
  return fieldAt(path);
}

/** A path as the database writes it, too: `kinds[0].users`. */
function fieldAt(path: readonly PropertyKey[]): string {
  const text = path.reduce<string>((before, key) => {
    if (typeof key === "number") return `${before}[${key}]`;
    return before === "" ? String(key) : `${before}.${String(key)}`;
  }, "");
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** The part of the sentence after the property's name. */
function describeIssue(issue: z.core.$ZodRawIssue): string {
  if (issue.input === undefined) return "is required";
  switch (issue.code) {
    case "invalid_type":
      return `must be ${nounOf(issue.expected)}`;
    case "invalid_value":
      return `must be ${issue.values.map(String).join(" or ")}`;
    case "too_big":
      return `is too large: at most ${String(issue.maximum)}`;
    case "too_small":
      return `is too small: at least ${String(issue.minimum)}`;
    case "invalid_format":
      return `must be ${formatNouns[issue.format] ?? "of another form"}`;
    case "custom":
    case "invalid_element":
    case "invalid_key":
    case "invalid_union":
    case "not_multiple_of":
    case "unrecognized_keys":
      return "is not of the kind that is expected here";
  }
}

const formatNouns: Readonly<Record<string, string>> = {
  date: "a date such as 2026-01-31",
  datetime: "a time with its zone, such as 2026-01-31T12:00:00Z",
  guid: "a UUID",
};

function nounOf(expected: string): string {
  switch (expected) {
    case "string":
      return "a string";
    case "number":
      return "a number";
    case "int":
      return "a whole number";
    case "boolean":
      return "true or false";
    case "array":
      return "an array";
    case "object":
    case "record":
      return "an object";
    default:
      return `of type ${expected}`;
  }
}

/** A whole number as PostgreSQL's int has it. */
export const wholeNumber = z.int32();

/** What is known of a user (rule U2). Null clears what may be unknown, and for the rest counts as absent. */
export const profileShape = z.object({
  email: z.string().nullish(),
  name: z.string().nullish(),
  tz: z.string().nullish(),
  signUpDate: z.string().nullish(),
  deviceTokens: z.array(z.string()).nullish(),
  subscribeToEmails: z.boolean().nullish(),
  attributes: z.record(z.string(), z.string().nullable()).nullish().transform((given) => given ?? undefined),
});

/** A user with its own ID, as events and POST /users carry it. */
export const identifiedUserShape = profileShape.extend({ id: z.string() });

/** The `updated` that a caller knows of what it changes: refused when that was changed since (LR026). */
export const unchangedSince = z.iso.datetime({ offset: true }).nullish();

/** An event without its value, which `decimalOf` reads (rule E2). */
export const eventShape = z.object({
  user: identifiedUserShape,
  attributes: z.record(z.string(), z.string()).nullish(),
  occurredAt: z.iso.datetime({ offset: true }).nullish(),
});
