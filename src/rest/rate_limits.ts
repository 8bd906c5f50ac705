import type { IncomingMessage } from "node:http";
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import type { Authenticate, Caller } from "./callers.ts";
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
    let caller: Caller;
    try {
      caller = await authenticate(request);
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) {
        // Only wrong keys are counted and refused by address: behind a proxy everybody has the same one.
        await consume(wrongKeys, addressOf(request), "Too many wrong keys came from this address.");
      }
      throw error;
    }
    await consume(requests, caller.keyId, `At most ${requestsPerMinute} requests a minute may be made with one key.`);
    return caller;
  };
}

async function consume(limiter: RateLimiterMemory, what: string, sentence: string): Promise<void> {
  try {
    await limiter.consume(what);
  } catch (error) {
    if (error instanceof RateLimiterRes) throw tooMany(sentence, error);
    throw error;
  }
}

const addressOf = (request: IncomingMessage): string => request.socket.remoteAddress ?? "unknown";

function tooMany(sentence: string, { msBeforeNext }: RateLimiterRes): Refusal {
  const seconds = Math.max(1, Math.ceil(msBeforeNext / 1000));
  return new Refusal(429, `${sentence} Try again in ${seconds} seconds.`, { headers: { "Retry-After": String(seconds) } });
}
