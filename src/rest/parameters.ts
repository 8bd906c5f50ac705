import { z } from "zod";
import { Refusal } from "./refusals.ts";
import { parseShape } from "./shapes.ts";

/** Most things that one call of the admin API changes, lists or deletes. */
export const mostItems = 100;

/** The page of a list. */
export const pageQuery = z.object({
  limit: z.int().min(1).max(100).default(10),
  skip: z.int().min(0).max(2_147_483_647).default(0),
});

/** The query parameter `userAttributes`; laurel_private.parse_user_attributes() reads it. */
export const userAttributesQuery = z.string().default("").describe(
  "Attributes of users, as key:value,key:value. As commas divide pairs, values that hold one are written as a JSON object: {\"city\": \"London, Ontario\"}.",
);

/** The query parameter `ids`: repeated, or separated by commas. */
export const idsQuery = z.object({ ids: z.array(z.string()).min(1).max(mostItems) });

/**
 * Reads a query by a shape of JSON types: numbers and booleans are written as JSON has them, arrays by repetition or
 * with commas. Refuses with 422 what does not fit, parameters sent twice included; unknown ones are ignored.
 */
export function parseQuery<T extends z.ZodObject>(shape: T, query: URLSearchParams): z.output<T> {
  const given: Record<string, unknown> = {};
  for (const [name, type] of Object.entries(shape.shape)) {
    const texts = query.getAll(name);
    if (texts.length === 0) continue;
    const core = coreOf(type);
    if (core instanceof z.ZodArray) {
      given[name] = [...new Set(texts.flatMap((text) => text.split(",")).map((text) => text.trim()).filter((text) => text !== ""))];
      continue;
    }
    if (texts.length > 1) throw new Refusal(422, `${name} was given more than once.`, { field: name });
    const [text = ""] = texts;
    if (core instanceof z.ZodNumber) given[name] = /^-?\d{1,10}$/.test(text) ? Number(text) : text;
    else if (core instanceof z.ZodBoolean) given[name] = text === "true" ? true : text === "false" ? false : text;
    else given[name] = text;
  }
  return parseShape(shape, given) as z.output<T>;
}

/** The type below its default and its being optional. */
function coreOf(type: unknown): unknown {
  return type instanceof z.ZodDefault || type instanceof z.ZodOptional || type instanceof z.ZodNullable
    ? coreOf(type.unwrap())
    : type;
}

/** A path parameter that is a UUID; 422 for anything else. */
export function uuidParam(params: Readonly<Record<string, string>>, name: string): string {
  const given = params[name] ?? "";
  if (!z.guid().safeParse(given).success) throw new Refusal(422, `The ${name} in the address must be a UUID.`, { field: name });
  return given;
}
