import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api.ts";
import { createStore, useStore } from "./stores.ts";

/** What is being read. While it is read again, what was read before stays. */
export interface Reading<T> {
  readonly data: T | undefined;
  /** The server's sentence, when it refused or was away. */
  readonly fault: string | undefined;
  readonly status: number | undefined;
  /** What of the request the server refused, by the API's name; undefined when no one thing. */
  readonly field: string | undefined;
  reload: () => void;
}

/** Counts changes made here: what was read before one may no longer be so. */
export const revision = createStore(0);

/** Says that something was changed: everything on the page reads anew. */
export function noteChange(): void {
  revision.set(revision.get() + 1);
}

/**
 * Reads, and reads again when a dependency or anything in the configuration changes, and `every` so many milliseconds while the
 * page is looked at; how long that is may depend on what was read. Answers that were overtaken are dropped.
 */
export function useReading<T>(read: () => Promise<T>, dependencies: readonly unknown[], every?: number | ((data: T | undefined) => number)): Reading<T> {
  const [state, setState] = useState<{ readonly key: string; readonly data?: T; readonly fault?: string; readonly status?: number; readonly field?: string | undefined }>({ key: "" });
  const changes = useStore(revision);
  const latest = useRef(0);
  const key = JSON.stringify(dependencies);
  const load = useCallback(() => {
    const turn = ++latest.current;
    read().then(
      (data) => {
        if (turn === latest.current) setState({ key, data });
      },
      (error: unknown) => {
        if (turn !== latest.current) return;
        const fault = sentenceOf(error);
        const status = error instanceof ApiError ? error.status : 0;
        const field = fieldOf(error);
        setState((before) => ({ ...(before.key === key && before.data !== undefined ? { data: before.data } : {}), key, fault, status, field }));
      },
    );
    // The reader is made anew at every drawing; what it depends on is in the key.
  }, [key]);
  useEffect(() => {
    load();
    return () => {
      latest.current += 1;
    };
  }, [load, changes]);
  const isCurrent = state.key === key;
  const everyMs = typeof every === "function" ? every(isCurrent ? state.data : undefined) : every;
  useEffect(() => {
    if (everyMs === undefined) return undefined;
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") load();
    }, everyMs);
    return () => {
      clearInterval(timer);
    };
  }, [load, everyMs]);
  return { data: isCurrent ? state.data : undefined, fault: isCurrent ? state.fault : undefined, status: isCurrent ? state.status : undefined, field: isCurrent ? state.field : undefined, reload: load };
}

/** What was opened for editing as it reads by now; undefined for a new one. So its form hears of what others changed. */
export const latestOf = <T extends { readonly id: string }>(opened: T | "new", rows: readonly T[] = []): T | undefined =>
  opened === "new" ? undefined : rows.find(({ id }) => id === opened.id) ?? opened;

/** What of the request went wrong, by the API's name; undefined when the server named nothing. */
export const fieldOf = (error: unknown): string | undefined => (error instanceof ApiError ? error.field : undefined);

/** What went wrong, in words. */
export function sentenceOf(error: unknown): string {
  if (error instanceof Error) return error.message;
  return "Something went wrong in this page.";
}
