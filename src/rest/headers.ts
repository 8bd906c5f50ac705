import { isUtf8 } from "node:buffer";
import type { IncomingMessage } from "node:http";
import { Refusal } from "./refusals.ts";

/**
 * A header that may appear once, as text; undefined when absent. Callers send UTF-8, which HTTP hands on byte by
 * byte. Refused with 400 when the header was sent more than once: Node would join the two.
 */
export function singleHeader(request: IncomingMessage, name: string): string | undefined {
  const raw = request.headers[name];
  if (raw === undefined) return undefined;
  const text = Array.isArray(raw) ? raw.join(", ") : raw;
  if (text.includes(",") && (request.headersDistinct[name]?.length ?? 0) > 1) {
    throw new Refusal(400, `The header ${name} was sent more than once.`);
  }
  return /^[\x20-\x7e]*$/.test(text) ? text : fromUtf8(text);
}

function fromUtf8(text: string): string {
  const bytes = Buffer.from(text, "latin1");
  return isUtf8(bytes) ? bytes.toString("utf8") : text;
}
