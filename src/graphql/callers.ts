import type { IncomingMessage } from "node:http";
import type { DatabaseRole } from "../postgres/pools.ts";

/** Whom a request acts for. Made from its key by our own authentication, from nothing else the caller sends. */
export interface GraphqlCaller {
  readonly role: DatabaseRole;
  /** The tenant's customer ID; "" is the default tenant. */
  readonly tenant: string;
  /** The one user the key is for; undefined for keys that act for the whole tenant. */
  readonly userId: string | undefined;
  /** The key's prefix, which the audit log shows. */
  readonly actor: string;
  readonly keyId: string;
}

/**
 * Finds the caller of a request by its key. Throws an error with a `status` below 500 and a message in words for a
 * key that is missing, wrong (401) or out of place (403); a database error when keys cannot be looked up.
 */
export type AuthenticateGraphql = (request: IncomingMessage) => Promise<GraphqlCaller>;

/** The settings under which every statement of the caller's request runs: the role, and what row-level security reads. */
export function settingsOf(caller: GraphqlCaller): Record<string, string> {
  return { role: caller.role, "laurel.tenant": caller.tenant, "laurel.user_id": caller.userId ?? "", "laurel.actor": caller.actor };
}
