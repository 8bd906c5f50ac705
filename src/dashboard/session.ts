import { createStore } from "./stores.ts";

/** Who is signed in. The key is in sessionStorage and nowhere else: it ends with the tab, and no address ever holds it. */
export interface Session {
  readonly key: string;
  /** The tenant's customer ID. */
  readonly tenant: string;
}

const place = "laurel.session";

/** The session; undefined when nobody is signed in. */
export const session = createStore<Session | undefined>(read());
/** Why somebody has to sign in again; empty at first. */
export const signedOutBecause = createStore("");

export function signIn(next: Session): void {
  sessionStorage.setItem(place, JSON.stringify(next));
  signedOutBecause.set("");
  session.set(next);
}

export function signOut(reason = ""): void {
  sessionStorage.removeItem(place);
  signedOutBecause.set(reason);
  session.set(undefined);
}

function read(): Session | undefined {
  try {
    const { key, tenant } = JSON.parse(sessionStorage.getItem(place) ?? "{}") as { key?: unknown; tenant?: unknown };
    return typeof key === "string" && typeof tenant === "string" ? { key, tenant } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * A map of what was typed or chosen. Whoever signs in next in this tab is not shown what somebody else left; who was
 * signed out by the server finds it again.
 */
export function keptUntilSignOut<K, V>(): Map<K, V> {
  const kept = new Map<K, V>();
  session.subscribe(() => {
    if (session.get() === undefined && signedOutBecause.get() === "") kept.clear();
  });
  return kept;
}
