import { context, lambda, listen, SafeError, type Step } from "postgraphile/grafast";
import { extendSchema, gql } from "postgraphile/utils";
import type { BalanceWatch, Watched, WatchedBalance } from "./balance_watch.ts";
import type { GraphqlCaller } from "./callers.ts";

declare global {
  // eslint-disable-next-line @typescript-eslint/no-namespace
  namespace Grafast {
    /** What plans find beside PostGraphile's own. */
    interface Context {
      readonly caller: GraphqlCaller;
      readonly balanceWatch: BalanceWatch;
    }
  }
}

/** Live updates: a user's balances, at once and whenever they change, for those who may read them (rule K1). */
export const SubscriptionsPlugin: GraphileConfig.Plugin = extendSchema({
  typeDefs: gql`
    """A user's total and level in a points system, as it is now."""
    type LiveBalance {
      systemKey: String!
      total: BigInt!
      """Key of the level; null below all levels."""
      level: String
      """Number of ledger rows so far."""
      lastSequence: BigInt!
    }
    extend type Subscription {
      """The user's balances in every system it has entered: at once, and again within about a second of each change."""
      userBalances(userId: String!): [LiveBalance!]
    }
  `,
  objects: {
    Subscription: {
      plans: {
        userBalances: {
          subscribePlan(_$root, { $userId }) {
            if ($userId === undefined) throw new Error("userBalances has an argument userId");
            const $topic = lambda([context().get("caller"), $userId], ([caller, userId]) =>
              JSON.stringify(watchedBy(caller, String(userId))));
            const $watch = lambda(context().get("balanceWatch"), (watch) => ({
              subscribe: (topic: string) => watch.subscribe(JSON.parse(topic) as Watched),
            }));
            return listen<Record<string, readonly WatchedBalance[]>, string, Step>($watch, $topic);
          },
          plan: ($event: Step) => $event,
        },
      },
    },
  },
});

/** Refuses other users to a key of one user. */
function watchedBy({ role, tenant, userId: own, keyId }: GraphqlCaller, userId: string): Watched {
  if (role === "laurel_user" && userId !== own) {
    throw new SafeError("This key may not do that: act for another user.", { code: "LR041" });
  }
  if (userId.length < 1 || userId.length > 255) {
    throw new SafeError("A user ID is text of 1 to 255 characters.", { code: "LR010" });
  }
  // All watchers share one query: what PostgreSQL cannot hold would end it for everybody.
  for (const text of [userId, tenant]) {
    if (text.includes("\0") || !text.isWellFormed()) throw new SafeError("A text contains a character that cannot be stored.", { code: "LR010" });
  }
  return { tenant, userId, keyId };
}
