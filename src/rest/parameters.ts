import { Refusal } from "./refusals.ts";

/** A query parameter that is a whole number within bounds; 422 for anything else, sent twice included. */
export function wholeParameter(
  query: URLSearchParams,
  name: string,
  bounds: { readonly least: number; readonly most: number; readonly otherwise: number },
): number {
  const given = query.getAll(name);
  if (given.length === 0) return bounds.otherwise;
  const [text = ""] = given;
  const number = Number(text);
  if (given.length > 1 || !/^\d{1,10}$/.test(text) || number < bounds.least || number > bounds.most) {
    throw new Refusal(422, `${name} must be a whole number from ${bounds.least} to ${bounds.most}.`);
  }
  return number;
}

/** Most things that one call of the admin API changes, lists or deletes. */
export const mostItems = 100;

/** The query parameter `ids`: repeated, or separated by commas; duplicates count once. 422 for none or too many. */
export function idsParameter(query: URLSearchParams): readonly string[] {
  const ids = new Set(
    query
      .getAll("ids")
      .flatMap((text) => text.split(","))
      .map((id) => id.trim())
      .filter((id) => id !== ""),
  );
  if (ids.size === 0 || ids.size > mostItems) {
    throw new Refusal(422, `ids must name 1 to ${mostItems} resources, repeated or separated by commas.`);
  }
  return [...ids];
}
