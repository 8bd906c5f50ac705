import type { Logger } from "pino";
import type { Pool } from "pg";
import { SafeError } from "postgraphile/grafast";

/** A user's balance as a subscription shows it; exact numbers are strings, as everywhere in GraphQL. */
export interface WatchedBalance {
  readonly systemKey: string;
  readonly total: string;
  readonly level: string | null;
  readonly lastSequence: string;
}

/** Who watches whom. */
export interface Watched {
  /** The tenant's customer ID; "" is the default tenant. */
  readonly tenant: string;
  readonly userId: string;
  /** The key it was allowed by: revoking it ends the watch. */
  readonly keyId: string;
}

/** Watches balances for subscriptions. */
export interface BalanceWatch {
  /** What a subscriber gets: the balances at once, and again whenever they have changed. Throws `SafeError` when there are too many. */
  subscribe: (watched: Watched) => AsyncIterableIterator<readonly WatchedBalance[]>;
  /** Ends all subscriptions. */
  stop: () => void;
}

/** What a watch is made from. */
export interface BalanceWatchOptions {
  /** The owner's: the database tells which watchers may go on. */
  readonly pool: Pool;
  readonly logger: Logger;
  /** Between two looks at the database. A second is what people take for live. */
  readonly intervalMs?: number;
  readonly mostPerKey?: number;
  readonly mostPerProcess?: number;
}

interface Watcher {
  readonly watched: Watched;
  /** The last state seen, to tell changes. */
  seen: string | undefined;
  /** A state that the subscriber has not fetched yet; newer ones take its place. */
  pending: readonly WatchedBalance[] | undefined;
  /** Set while the subscriber waits. */
  wake: (() => void) | undefined;
  end: { readonly error: SafeError | undefined } | undefined;
}

/**
 * Makes a watch. It looks only while somebody watches, with one query for all watchers together
 * (laurel_private.watched_balances): awards know nothing of it.
 */
export function createBalanceWatch(options: BalanceWatchOptions): BalanceWatch {
  const { pool, logger, intervalMs = 1_000, mostPerKey = 100, mostPerProcess = 5_000 } = options;
  const watchers = new Set<Watcher>();
  let timer: NodeJS.Timeout | undefined;
  let isLooking = false;

  const schedule = (delayMs: number): void => {
    clearTimeout(timer);
    timer = watchers.size === 0 ? undefined : setTimeout(() => void look(), delayMs);
  };

  async function look(): Promise<void> {
    if (isLooking) return;
    isLooking = true;
    const asked = [...watchers];
    try {
      const { rows } = await pool.query<{ no: number; is_allowed: boolean; balances: WatchedBalance[] }>({
        name: "watched_balances",
        text: "select no, is_allowed, balances from laurel_private.watched_balances($1, $2, $3)",
        values: [
          asked.map(({ watched }) => watched.tenant),
          asked.map(({ watched }) => watched.userId),
          asked.map(({ watched }) => watched.keyId),
        ],
      });
      for (const { no, is_allowed: isAllowed, balances } of rows) {
        const watcher = asked[no - 1];
        if (watcher === undefined) continue;
        if (isAllowed) show(watcher, balances);
        else finish(watcher, new SafeError("The API key, or the tenant it acts for, is not valid any more.", { code: "LR040" }));
      }
    } catch (error) {
      // The database is away: watchers are shown what changed when it is back.
      logger.warn({ err: error }, "could not look after watched balances");
    } finally {
      isLooking = false;
      // Whoever came meanwhile is waiting for its first state.
      schedule([...watchers].some(({ seen }) => seen === undefined) ? Math.min(50, intervalMs) : intervalMs);
    }
  }

  function show(watcher: Watcher, balances: readonly WatchedBalance[]): void {
    const state = JSON.stringify(balances);
    if (state === watcher.seen) return;
    watcher.seen = state;
    watcher.pending = balances;
    watcher.wake?.();
  }

  function finish(watcher: Watcher, error: SafeError | undefined): void {
    watchers.delete(watcher);
    watcher.end ??= { error };
    watcher.wake?.();
    if (watchers.size === 0) schedule(intervalMs);
  }

  return {
    subscribe: (watched) => {
      const ofKey = [...watchers].filter((watcher) => watcher.watched.keyId === watched.keyId).length;
      if (ofKey >= mostPerKey || watchers.size >= mostPerProcess) {
        throw new SafeError("Too many subscriptions are open with this key; close some first.", { code: "TOO_MANY_SUBSCRIPTIONS" });
      }
      const watcher: Watcher = { watched, seen: undefined, pending: undefined, wake: undefined, end: undefined };
      watchers.add(watcher);
      schedule(0);
      return iterate(watcher, () => {
        finish(watcher, undefined);
      });
    },
    stop: () => {
      for (const watcher of watchers) finish(watcher, undefined);
    },
  };
}

/** By hand rather than as a generator, whose return() would wait for the next change. */
function iterate(watcher: Watcher, leave: () => void): AsyncIterableIterator<readonly WatchedBalance[]> {
  const done = { done: true, value: undefined } as const;
  const iterator: AsyncIterableIterator<readonly WatchedBalance[]> = {
    next: async () => {
      while (watcher.pending === undefined) {
        if (watcher.end !== undefined) {
          const { error } = watcher.end;
          watcher.end = { error: undefined };
          if (error !== undefined) throw error;
          return done;
        }
        await new Promise<void>((resolve) => {
          watcher.wake = resolve;
        });
        watcher.wake = undefined;
      }
      const value = watcher.pending;
      watcher.pending = undefined;
      return { done: false, value };
    },
    return: () => {
      leave();
      return Promise.resolve(done);
    },
    throw: (error: unknown) => {
      leave();
      return Promise.reject(error instanceof Error ? error : new Error(String(error)));
    },
    [Symbol.asyncIterator]: () => iterator,
  };
  return iterator;
}
