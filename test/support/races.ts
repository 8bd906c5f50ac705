import type { Pool, PoolClient } from "pg";
import { eventually } from "./database.ts";
import type { Database } from "./factories.ts";

/** Runs `work` in a transaction on a connection of its own and stops before the end; the test says how it ends. */
export async function openTransaction(pool: Pool): Promise<{
  client: PoolClient;
  end: (how: "commit" | "rollback") => Promise<void>;
}> {
  const client = await pool.connect();
  await client.query("begin");
  return {
    client,
    end: async (how) => {
      await client.query(how);
      client.release();
    },
  };
}

/** Starts `work` on a connection of its own and waits until it waits for another's lock. */
export async function startAndBlock<T>(
  pool: Pool,
  observer: Database,
  work: (client: PoolClient) => Promise<T>,
): Promise<{ result: Promise<T> }> {
  const client = await pool.connect();
  const found = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  const result = work(client).finally(() => {
    client.release();
  });
  result.catch(() => undefined);
  await eventually("the second caller to wait for the first", () => isBlocked(observer, found.rows[0]?.pid));
  return { result };
}

/** Starts `work` on a connection of its own and waits until it waits for another's lock, or is done. */
export async function startAndBlockOrFinish<T>(
  pool: Pool,
  observer: Database,
  work: (client: PoolClient) => Promise<T>,
): Promise<{ result: Promise<T> }> {
  const client = await pool.connect();
  const found = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  let isDone = false;
  const result = work(client).finally(() => {
    isDone = true;
    client.release();
  });
  result.catch(() => undefined);
  await eventually(
    "the second caller to wait for the first or to be done",
    async () => isDone || (await isBlocked(observer, found.rows[0]?.pid)),
  );
  return { result };
}

async function isBlocked(observer: Database, pid: number | undefined): Promise<boolean> {
  const found = await observer.query<{ blocked: boolean }>(
    "select cardinality(pg_blocking_pids($1)) > 0 as blocked",
    [pid],
  );
  return found.rows[0]?.blocked === true;
}

export { randomFrom } from "./random.ts";

/** The same items in another order. */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, place: random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}
