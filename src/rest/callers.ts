import { timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Pool } from "pg";
import { parseApiKey } from "../api_keys.ts";
import { singleHeader } from "./headers.ts";
import { Refusal } from "./refusals.ts";

/** Who a key stands for (rule K1). */
export type Caller = {
  /** The key's ID and the part of it that is no secret. */
  readonly keyId: string;
  readonly prefix: string;
} & (
  | { readonly kind: "admin" }
  | { readonly kind: "application"; readonly customerId: string; readonly userId: string }
);

/** Finds the caller of a request. Throws `Refusal` 401 for a key that is missing, wrong or revoked. */
export type Authenticate = (request: IncomingMessage) => Promise<Caller>;

interface KnownKey {
  readonly sha256: Buffer;
  readonly caller: Caller;
}

/** How long a key that was looked up is believed; a revoked one works this much longer. */
const lifetimeMs = 5_000;
/** Keys kept, and as many unknown prefixes, which guessing callers fill: each costs one look-up in five seconds. */
const mostKeys = 10_000;
/** Prefixes as Laurel makes and accepts them; nothing else is looked up. */
const prefixForm = /^[A-Za-z0-9_-]{1,64}$/;

/**
 * Makes the authenticator. `pool` is the owner's: callers may not see keys. Look-ups are shared: a hundred
 * simultaneous requests with one key ask once.
 */
export function createAuthenticator(pool: Pool, now: () => number = () => performance.now()): Authenticate {
  const known = createCache<KnownKey>(now);
  const unknown = createCache<undefined>(now);
  const noteUse = createUseNotes(pool, now);
  const findKey = async (prefix: string): Promise<KnownKey | undefined> => {
    const cached = known.get(prefix) ?? unknown.get(prefix);
    if (cached !== undefined) return cached;
    const asked = lookUpKey(pool, prefix);
    known.set(prefix, asked);
    try {
      const key = await asked;
      if (key === undefined) {
        known.delete(prefix);
        unknown.set(prefix, Promise.resolve(undefined));
      }
      return key;
    } catch (error) {
      known.delete(prefix);
      throw error;
    }
  };
  return async (request) => {
    const secret = singleHeader(request, "x-api-key");
    if (secret === undefined || secret === "") {
      throw new Refusal(401, "The API key is missing. Send it in the X-API-KEY header.");
    }
    const key = parseApiKey(secret);
    const stored = key !== undefined && prefixForm.test(key.prefix) ? await findKey(key.prefix) : undefined;
    if (key === undefined || stored?.sha256.length !== key.sha256.length || !timingSafeEqual(stored.sha256, key.sha256)) {
      throw new Refusal(401, "The API key is not valid.");
    }
    noteUse(stored.caller.keyId);
    return stored.caller;
  };
}

/** How often a key's last use is written, at most; to the minute is what people look at. */
const useNotedEveryMs = 60_000;

/** Writes down that a key was used, now and then and beside the request: nobody waits for it. */
function createUseNotes(pool: Pool, now: () => number): (keyId: string) => void {
  const noted = new Map<string, number>();
  return (keyId) => {
    const last = noted.get(keyId);
    if (last !== undefined && now() - last < useNotedEveryMs) return;
    if (noted.size >= mostKeys) noted.clear();
    noted.set(keyId, now());
    pool.query("select laurel_private.touch_api_key($1)", [keyId]).catch(() => {
      // The database is away: the next use tries again.
      noted.delete(keyId);
    });
  };
}

async function lookUpKey(pool: Pool, prefix: string): Promise<KnownKey | undefined> {
  const found = await pool.query<{
    id: string;
    key_sha256: Buffer;
    kind: "admin" | "application";
    customer_id: string | null;
    user_id: string | null;
  }>("select id, key_sha256, kind, customer_id, user_id from laurel_private.find_api_key($1)", [prefix]);
  const [row] = found.rows;
  if (row === undefined) return undefined;
  const key = { keyId: row.id, prefix };
  if (row.kind === "admin") return { sha256: row.key_sha256, caller: { ...key, kind: "admin" } };
  if (row.customer_id === null || row.user_id === null) return undefined;
  return {
    sha256: row.key_sha256,
    caller: { ...key, kind: "application", customerId: row.customer_id, userId: row.user_id },
  };
}

interface Cache<T> {
  get: (name: string) => Promise<T | undefined> | undefined;
  set: (name: string, value: Promise<T | undefined>) => void;
  delete: (name: string) => void;
}

/** A map that forgets: entries after their lifetime, and the oldest when there are too many. */
function createCache<T>(now: () => number): Cache<T> {
  const entries = new Map<string, { readonly value: Promise<T | undefined>; readonly until: number }>();
  return {
    get: (name) => {
      const entry = entries.get(name);
      if (entry === undefined) return undefined;
      if (entry.until > now()) return entry.value;
      entries.delete(name);
      return undefined;
    },
    set: (name, value) => {
      const [oldest] = entries.size >= mostKeys ? entries.keys() : [];
      if (oldest !== undefined) entries.delete(oldest);
      entries.set(name, { value, until: now() + lifetimeMs });
    },
    delete: (name) => {
      entries.delete(name);
    },
  };
}

/**
 * The tenant a request acts for, by its customer ID; "" stands for the default one. An application key stays in its
 * own tenant: another one in the header is refused with 403.
 */
export function tenantOf(caller: Caller, request: IncomingMessage): string {
  const named = singleHeader(request, "tenant-id");
  if (caller.kind === "admin") return named ?? "";
  if (named !== undefined && named !== "" && named !== caller.customerId) {
    throw new Refusal(403, "This key belongs to another tenant than the one named in Tenant-ID.");
  }
  return caller.customerId;
}
