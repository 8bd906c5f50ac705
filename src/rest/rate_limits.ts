import type { IncomingMessage } from "node:http";
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import type { Authenticate } from "./callers.ts";
import { Refusal } from "./refusals.ts";

const minuteSeconds = 60;
/** Wrong keys from one address in a minute, when limits are on: people mistype, guessers do not stop. */
const wrongKeysPerMinute = 30;

/**
 * Limits how many requests a key may make in a minute, in this process, every way in over HTTP together; undefined
 * for no limit. Refuses with 429 and Retry-After.
 */
export function limitRate(authenticate: Authenticate, requestsPerMinute: number | undefined): Authenticate {
  if (requestsPerMinute === undefined) return authenticate;
  const requests = new RateLimiterMemory({ points: requestsPerMinute, duration: minuteSeconds });
  const wrongKeys = new RateLimiterMemory({ points: wrongKeysPerMinute, duration: minuteSeconds });
  return async (request) => {
    const address = addressOf(request);
    const before = await wrongKeys.get(address);
    if (before !== null && before.remainingPoints <= 0) {
      throw tooMany("Too many wrong keys came from this address.", before);
    }
    try {
      const caller = await authenticate(request);
      await requests.consume(caller.keyId);
      return caller;
    } catch (error) {
      if (error instanceof RateLimiterRes) throw tooMany(`At most ${requestsPerMinute} requests a minute may be made with one key.`, error);
      if (error instanceof Refusal && error.status === 401) await wrongKeys.penalty(address);
      throw error;
    }
  };
}

const addressOf = (request: IncomingMessage): string => request.socket.remoteAddress ?? "unknown";

function tooMany(sentence: string, { msBeforeNext }: RateLimiterRes): Refusal {
  const seconds = Math.max(1, Math.ceil(msBeforeNext / 1000));
  return new Refusal(429, `${sentence} Try again in ${seconds} seconds.`, { "Retry-After": String(seconds) });
}
