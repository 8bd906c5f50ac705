import type { JsonBody } from "./bodies.ts";
import { Refusal } from "./refusals.ts";

/** Decimal notation, as JSON has it and a little beyond: +1 and .5 are fine, 0x10 and 1_000 are not. */
const decimal = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?$/;
/** A number that a double may have changed: many digits, or an exponent. */
const mayBeInexact = /\d[\d.]{15,}|\d[eE]/;
const longestDecimal = 100;

/** Whether a text is a decimal in a form that is accepted. */
export const isDecimal = (text: string): boolean => text.length <= longestDecimal && decimal.test(text);

/**
 * The body's own property `value` as decimal text, exactly as it was sent: a JSON number keeps the digits that a
 * double cannot. How many digits are too many is the database's to say (rule E2); 422 when it is no decimal at all.
 */
export function decimalOf(body: JsonBody): string {
  const { value } = body.value as { value?: unknown };
  if (value === undefined || value === null) throw new Refusal(422, "value is required.", { field: "value" });
  if (typeof value !== "number" && typeof value !== "string") {
    throw new Refusal(422, "value must be a number, or a decimal in a string.", { field: "value" });
  }
  const text = typeof value === "number" ? sourceOf(body, value) : value.trim();
  if (!isDecimal(text)) {
    throw new Refusal(422, "value must be a finite number, or a decimal in a string such as \"12.50\".", { field: "value" });
  }
  return text;
}

function sourceOf(body: JsonBody, value: number): string {
  if (!mayBeInexact.test(body.text)) return String(value);
  const sources = new WeakMap<object, string>();
  const root: unknown = JSON.parse(
    body.text,
    function (this: unknown, key: string, item: unknown, context?: { readonly source?: string }): unknown {
      if (key === "value" && context?.source !== undefined && typeof this === "object" && this !== null) {
        sources.set(this, context.source);
      }
      return item;
    },
  );
  return sources.get(root as object) ?? String(value);
}
