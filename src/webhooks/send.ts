import { type Dispatcher, request } from "undici";
import { ForbiddenAddressError } from "./addresses.ts";

/** Longest that an attempt may take, from the first look at DNS to the last byte of the answer (rule H2). */
export const attemptTimeoutMs = 15_000;
/** Bytes of an answer's body that are read. */
export const responseLimitBytes = 16 * 1024;

/** What came of an attempt. */
export interface AttemptResult {
  /** HTTP status; undefined when there was no answer. */
  readonly status: number | undefined;
  /** What was wrong; undefined when the endpoint answered 2xx. */
  readonly error: string | undefined;
  /** The first 16 kB of the answer's body; undefined when there was none. */
  readonly response: string | undefined;
  /** How long the endpoint asked to be left alone. */
  readonly retryAfterMs: number | undefined;
}

/** Sends one body; never throws. Redirects are not followed: an endpoint that moved is told so by its 3xx. */
export async function sendWebhook(options: {
  /** Makes the connections: guarded (see addresses.ts). */
  readonly agent: Dispatcher;
  readonly url: string;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly now: () => Date;
}): Promise<AttemptResult> {
  const { agent, url, body, headers, timeoutMs, now } = options;
  let status: number | undefined;
  let retryAfterMs: number | undefined;
  const chunks: Buffer[] = [];
  const answered = (error: string | undefined): AttemptResult => ({
    status, error, retryAfterMs, response: chunks.length === 0 ? undefined : readable(Buffer.concat(chunks)),
  });
  try {
    const answer = await request(url, {
      dispatcher: agent,
      method: "POST",
      body,
      headers: { "content-type": "application/json", "user-agent": "Laurel-Webhooks", ...headers },
      signal: AbortSignal.timeout(timeoutMs),
    });
    status = answer.statusCode;
    retryAfterMs = readRetryAfter(answer.headers["retry-after"], now());
    let room = responseLimitBytes;
    for await (const chunk of answer.body) {
      const bytes = (chunk as Buffer).subarray(0, room);
      chunks.push(bytes);
      room -= bytes.length;
      // Leaving the loop closes the connection: what else it has to say is not listened to.
      if (room === 0) break;
    }
    return answered(status >= 200 && status < 300 ? undefined : `the endpoint answered ${status}`);
  } catch (error) {
    // An answer that breaks off after its status still was no delivery: nobody knows what the receiver did.
    return answered(reasonOf(error, timeoutMs));
  }
}

/** Retry-After: seconds, or a date. */
function readRetryAfter(header: string | string[] | undefined, now: Date): number | undefined {
  const text = typeof header === "string" ? header.trim() : undefined;
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(at - now.getTime(), 0);
}

/** Text that PostgreSQL can hold. */
function readable(bytes: Buffer): string {
  return bytes.toString("utf8").replaceAll("\0", "\u{FFFD}");
}

function reasonOf(error: unknown, timeoutMs: number): string {
  const cause = error instanceof AggregateError ? (error.errors as unknown[])[0] : error;
  const { name = "", message = String(cause), code } = (cause ?? {}) as Partial<NodeJS.ErrnoException>;
  if (/^(Abort|Timeout|\w*Timeout)Error$/.test(name)) return `no answer within ${timeoutMs / 1000} s`;
  if (cause instanceof ForbiddenAddressError) return `not sent: ${message}`;
  return `${code === undefined ? "" : `${code}: `}${message}`.replaceAll("\0", "").slice(0, 1000);
}
