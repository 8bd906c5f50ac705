import type { Contest } from "./contest.ts";
import { type DatabaseWork, distinctUsers, pgbenchContestant } from "./database_contests.ts";
import { randomNumber, runAutocannon } from "./http_load.ts";
import type { LaurelProcess } from "./laurel_process.ts";

const connections = 8;
const inDatabase = "record_event in the database";

/** (c) One event over HTTP, against the same in the database and an Express route that calls one trivial function; and one read, against an Express route that runs one query. */
export function httpContests(
  work: DatabaseWork,
  laurel: LaurelProcess,
  bareUrl: string,
): Contest[] {
  const { seconds } = work;
  const headers = { "x-api-key": laurel.adminKey };
  const randomUser = (): number => randomNumber(distinctUsers.first_user, distinctUsers.last_user);
  const randomKind = (): string => (randomNumber(1, 4) === 1 ? "gold" : "plain");
  const rivals = [
    {
      name: "bare Express route",
      run: () => runAutocannon({ url: bareUrl, connections, seconds, next: () => ({ body: { userId: randomUser() } }) }),
    },
    pgbenchContestant(work, inDatabase, { script: "record_event", clients: connections, variables: distinctUsers }),
  ];
  const rest: Contest = {
    title: "REST event, 8 connections",
    laurel: {
      name: "Laurel",
      run: () =>
        runAutocannon({
          url: `${laurel.url}/v1/metrics/words/event`,
          connections,
          seconds,
          headers,
          next: () => ({ body: { user: { id: `u${randomUser()}` }, value: 1, attributes: { kind: randomKind() } } }),
        }),
    },
    rivals,
    goals: [{ kind: "share", of: inDatabase, least: 0.4 }],
  };
  const graphql: Contest = {
    title: "GraphQL recordEvent, 8 connections",
    laurel: {
      name: "Laurel",
      run: () =>
        runAutocannon({
          url: `${laurel.url}/graphql`,
          connections,
          seconds,
          headers,
          next: () => ({
            body: {
              query:
                "mutation ($userId: String!, $attributes: JSON) { recordEvent(input: { metricKey: \"words\", userId: $userId, attributes: $attributes }) { result } }",
              variables: { userId: `u${randomUser()}`, attributes: { kind: randomKind() } },
            },
          }),
        }),
    },
    rivals,
    goals: [],
  };
  const bareRead = "bare Express route with one indexed query, of the same awards";
  const reads: Contest = {
    title: "GET a user's points, 8 connections",
    laurel: {
      name: "Laurel",
      run: () =>
        runAutocannon({
          url: laurel.url,
          connections,
          seconds,
          headers,
          next: () => ({ path: `/v1/users/u${randomUser()}/points/xp` }),
        }),
    },
    rivals: [
      {
        name: bareRead,
        run: () => runAutocannon({ url: bareUrl, connections, seconds, next: () => ({ path: `/bare/${randomUser()}/awards` }) }),
      },
      {
        name: "of their points and totals alone",
        run: () => runAutocannon({ url: bareUrl, connections, seconds, next: () => ({ path: `/bare/${randomUser()}` }) }),
      },
    ],
    // At most 1.5 times the bare route's time.
    goals: [{ kind: "share", of: bareRead, least: 2 / 3 }],
  };
  return [rest, reads, graphql];
}
