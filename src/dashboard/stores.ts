import { useEffect, useState } from "preact/hooks";

/** A value that several parts of the page look at. */
export interface Store<T> {
  get: () => T;
  set: (value: T) => void;
  subscribe: (listen: () => void) => () => void;
}

/** Makes one. */
export function createStore<T>(initial: T): Store<T> {
  let value = initial;
  const listeners = new Set<() => void>();
  return {
    get: () => value,
    set: (next) => {
      if (next === value) return;
      value = next;
      for (const listen of [...listeners]) listen();
    },
    subscribe: (listen) => {
      listeners.add(listen);
      return () => listeners.delete(listen);
    },
  };
}

/** The value, kept current. */
export function useStore<T>(store: Store<T>): T {
  const [, redraw] = useState({});
  useEffect(() => store.subscribe(() => {
    redraw({});
  }), [store]);
  return store.get();
}
