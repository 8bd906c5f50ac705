import type { Contest, Contestant } from "./contest.ts";
import { randomNumber, runAutocannon } from "./http_load.ts";
import { type PgbenchRun, runPgbench } from "./pgbench.ts";

/** What a contest in the database needs: where, and how long one run takes. */
export interface DatabaseWork {
  readonly pgbench: string;
  readonly connectionString: string;
  readonly seconds: number;
}

const bare = "bare award";
const ownTables = "bare award, own tables";
/** The same statements sent by pgbench: what is left of the application's cost without a program in it. */
const statements = "its statements, by pgbench";
const application = "application, node and pg";
export const rowsPerBatch = 1000;
/** The users of setup.sql, from 0 to 10000, without the hot one: number 0. */
export const distinctUsers = { first_user: 1, last_user: 10_000 };
const hotUser = { first_user: 0, last_user: 0 };

/**
 * (a) `laurel.record_event` against minimal awards written by hand, and against an application that decides by itself
 * (`applicationUrl`, see rival_server.ts).
 */
export function singleEventContests(work: DatabaseWork, applicationUrl: string): Contest[] {
  const contest = (
    title: string,
    clients: number,
    users: { readonly first_user: number; readonly last_user: number },
    shares: readonly (readonly [of: string, least: number])[],
  ): Contest => {
    const contestant = (name: string, script: string): Contestant =>
      pgbenchContestant(work, name, { script, clients, variables: users });
    return {
      title,
      laurel: contestant("Laurel", "record_event"),
      rivals: [
        contestant(bare, "award"),
        contestant(ownTables, "award_on_own_tables"),
        contestant(statements, "application"),
        {
          name: application,
          run: () =>
            runAutocannon({
              url: applicationUrl,
              connections: clients,
              seconds: work.seconds,
              next: () => ({
                body: {
                  userId: randomNumber(users.first_user, users.last_user),
                  attributes: { kind: randomNumber(1, 4) === 1 ? "gold" : "plain" },
                },
              }),
            }),
        },
      ],
      goals: shares.map(([of, least]) => ({ kind: "share", of, least })),
    };
  };
  const also = [
    [ownTables, 0.5],
    [application, 2.5],
  ] as const;
  return [
    contest("single events, 1 client", 1, distinctUsers, [[bare, 0.55], ...also]),
    contest("single events, 8 clients", 8, distinctUsers, [[bare, 0.38], ...also]),
    contest("single events, 32 clients", 32, distinctUsers, [[bare, 0.3], ...also]),
    contest("one hot user, 32 clients", 32, hotUser, [[bare, 0.55]]),
  ];
}

/** (b) INSERT of 1,000 rows a statement on two connections, against the bare tables, set-based. */
export function batchContests(work: DatabaseWork): Contest[] {
  const contest = (title: string, kind: "distinct" | "repeated", least: number): Contest => {
    const contestant = (name: string, script: string): Contestant =>
      pgbenchContestant(work, name, { script, clients: 2 }, rowsPerBatch);
    return {
      title,
      laurel: contestant("Laurel", `insert_${kind}`),
      rivals: [contestant(bare, `award_batch_${kind}`)],
      goals: [{ kind: "rate", least }],
    };
  };
  return [
    contest("INSERT of 1,000 rows, 1,000 users", "distinct", 11_000),
    contest("INSERT of 1,000 rows, 20 users × 50", "repeated", 45_000),
  ];
}

/** A contestant that pgbench drives; `events` is how many one transaction brings. */
export function pgbenchContestant(
  work: DatabaseWork,
  name: string,
  run: Pick<PgbenchRun, "script" | "clients" | "variables">,
  events = 1,
): Contestant {
  const { pgbench, connectionString, seconds } = work;
  return {
    name,
    run: async () => events * (await runPgbench(pgbench, { connectionString, seconds, ...run })),
  };
}
