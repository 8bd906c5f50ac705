import type { IncomingMessage } from "node:http";
import { Refusal } from "./refusals.ts";

/** A parsed body beside its text: what JSON numbers lose in JavaScript is still in the text. */
export interface JsonBody {
  readonly text: string;
  readonly value: unknown;
}

/** Bytes of an ordinary body. */
export const bodyLimitBytes = 1024 * 1024;
/** Bytes of a body that holds a batch of configuration. */
export const batchBodyLimitBytes = 5 * 1024 * 1024;

const utf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * Reads a JSON body. Refuses with 415 what is not JSON by its own declaration (a missing Content-Type counts as
 * JSON), 413 above `limitBytes`, 400 for what does not parse, and 422 for text that PostgreSQL cannot hold.
 */
export async function readJsonBody(request: IncomingMessage, limitBytes: number): Promise<JsonBody> {
  requireJsonType(request);
  const bytes = await readBytes(request, limitBytes);
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new Refusal(400, "The body is not valid UTF-8.");
  }
  if (text.trim() === "") throw new Refusal(400, "The body is empty; send a JSON object.");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refusal(400, "The body is not valid JSON.");
  }
  // What has no escape and no such word can hold none of the things that `requireStorable` looks for.
  if (text.includes("\\u") || text.includes("__proto__")) requireStorable(value);
  return { text, value };
}

function requireJsonType(request: IncomingMessage): void {
  const type = request.headers["content-type"];
  if (type !== undefined && type !== "application/json") {
    const [essence = "", ...parameters] = type.toLowerCase().split(";").map((part) => part.trim());
    const isJson = essence === "application/json" || /^application\/[\w.-]+\+json$/.test(essence);
    const charset = parameters.find((parameter) => parameter.startsWith("charset="))?.slice(8).replaceAll('"', "");
    if (!isJson) throw new Refusal(415, "Send the body as application/json.");
    if (charset !== undefined && charset !== "utf-8" && charset !== "utf8") {
      throw new Refusal(415, "Send the body in UTF-8.");
    }
  }
  const encoding = request.headers["content-encoding"];
  if (encoding !== undefined && encoding !== "identity") {
    throw new Refusal(415, "Send the body uncompressed.");
  }
}

/** A sender of far too much is cut off; one of a little too much can still be told so. */
const patience = 8;

async function readBytes(request: IncomingMessage, limitBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const tooLarge = (): Refusal =>
      new Refusal(413, `The body is too large: at most ${limitBytes} bytes are read.`, { headers: { Connection: "close" } });
    request.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size <= limitBytes) chunks.push(chunk);
      else if (size > limitBytes * patience) {
        request.pause();
        reject(tooLarge());
      }
    });
    request.on("end", () => {
      if (size > limitBytes) reject(tooLarge());
      else resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, size));
    });
    request.on("error", () => {
      reject(new Refusal(400, "The body was cut off."));
    });
    request.on("close", () => {
      if (!request.complete) reject(new Refusal(400, "The body was cut off."));
    });
  });
}

/**
 * Refuses, with 422, text that PostgreSQL cannot hold (NUL characters, halves of surrogate pairs) anywhere in the
 * value, and the key `__proto__`, which would mean something else to JavaScript. Without recursion: depth is free.
 */
function requireStorable(value: unknown): void {
  const left: unknown[] = [value];
  while (left.length > 0) {
    const next = left.pop();
    if (typeof next === "string") requireStorableText(next, "A text in the body");
    else if (Array.isArray(next)) for (const item of next) left.push(item);
    else if (typeof next === "object" && next !== null) {
      for (const [key, item] of Object.entries(next)) {
        if (key === "__proto__") throw new Refusal(422, "The key __proto__ is not allowed.");
        requireStorableText(key, "A key in the body");
        left.push(item);
      }
    }
  }
}

/** Refuses, with 422, text that PostgreSQL cannot hold; `what` opens the sentence, `field` is what it is the value of. */
export function requireStorableText(text: string, what: string, field?: string): void {
  if (text.includes("\0")) throw new Refusal(422, `${what} contains a NUL character.`, { field });
  if (!text.isWellFormed()) throw new Refusal(422, `${what} contains half a surrogate pair.`, { field });
}
