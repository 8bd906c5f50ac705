import { rmSync } from "node:fs";
import { Client, escapeIdentifier } from "pg";

/** Leaves nothing of the run behind, whether its tests passed or not. */
export default async function globalTeardown(): Promise<void> {
  const run = globalThis.laurelTestRun;
  if (run === undefined) return;
  for (const server of run.servers) {
    await server.stop();
    rmSync(server.dataDirectory, { recursive: true, force: true });
  }
  if (run.servers.length > 0) return;
  const admin = new Client({ connectionString: run.adminUrl });
  await admin.connect();
  const left = await admin.query<{ datname: string }>(
    "select datname from pg_database where starts_with(datname, $1)",
    [run.prefix],
  );
  for (const { datname } of left.rows) {
    await admin.query(`drop database ${escapeIdentifier(datname)} with (force)`);
  }
  await admin.end();
}
