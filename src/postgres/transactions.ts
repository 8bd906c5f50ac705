import type { Pool, PoolClient } from "pg";

/** What a transaction starts with: settings such as `laurel.tenant`, which end with it. */
export interface TransactionOptions {
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * Runs `work` in a transaction on one connection of the pool: committed when it returns, rolled back when it
 * throws. Errors of the database pass through as they are (see `toHttpError`); nothing is tried again.
 */
export async function inTransaction<T>(
  pool: Pool,
  work: (client: PoolClient) => Promise<T>,
  options: TransactionOptions = {},
): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query("begin");
    await applySettings(client, options.settings ?? {});
    const result = await work(client);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch((rollbackError: unknown) => {
      broken = rollbackError as Error;
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

/** Sets configuration parameters for the rest of the current transaction. */
export async function applySettings(
  client: PoolClient,
  settings: Readonly<Record<string, string>>,
): Promise<void> {
  const names = Object.keys(settings);
  if (names.length === 0) return;
  await client.query(
    "select set_config(name, value, true) from unnest($1::text[], $2::text[]) as given(name, value)",
    [names, Object.values(settings)],
  );
}
