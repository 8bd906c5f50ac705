import type { Client } from "graphql-ws";
import { useEffect, useState } from "preact/hooks";
import * as documents from "./documents.ts";
import type { Balance } from "./records.ts";
import { session } from "./session.ts";

/** Balances as they are now, and whether they are still being watched. */
export interface LiveBalances {
  readonly balances: readonly Balance[] | undefined;
  readonly isLive: boolean;
}

/** A user's balances, pushed by the server about a second after each change; the connection is made anew when it breaks. */
export function useLiveBalances(userId: string): LiveBalances {
  const [state, setState] = useState<LiveBalances>({ balances: undefined, isLive: false });
  useEffect(() => {
    let client: Client | undefined;
    let isOver = false;
    setState({ balances: undefined, isLive: false });
    void import("graphql-ws").then(({ createClient }) => {
      if (isOver) return;
      const { key, tenant } = session.get() ?? { key: "", tenant: "" };
      client = createClient({
        url: `${location.origin.replace(/^http/, "ws")}/graphql`,
        connectionParams: { "X-API-KEY": key, ...(tenant === "" ? {} : { "Tenant-ID": tenant }) },
        retryAttempts: Infinity,
        shouldRetry: () => true,
        on: {
          closed: () => {
            setState((before) => ({ ...before, isLive: false }));
          },
        },
      });
      client.subscribe<{ userBalances: readonly Balance[] | null }>({ query: documents.userBalances, variables: { userId } }, {
        next: ({ data }) => {
          if (data !== undefined && data !== null) setState({ balances: data.userBalances ?? [], isLive: true });
        },
        error: () => {
          setState((before) => ({ ...before, isLive: false }));
        },
        complete: () => undefined,
      });
    });
    return () => {
      isOver = true;
      void client?.dispose();
    };
  }, [userId]);
  return state;
}
