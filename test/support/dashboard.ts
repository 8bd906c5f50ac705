import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { projectDirectory } from "../../src/config.ts";

/** Any numbers, the same in every file. */
const locks = { build: 4_120_711, unpack: 4_120_712 } as const;

/** Makes sure that the dashboard that is served was built from the sources as they are. */
export const builtDashboard = (): Promise<void> =>
  // In a process of its own, as at install: the bundler keeps threads.
  oneAtATime("build", async () => {
    await promisify(execFile)(process.execPath, ["--disable-warning=ExperimentalWarning", join(projectDirectory, "src/cli/build_dashboard.ts")]);
  });

/** Does what test files share: one of them does it, the others wait, and find it done. */
export async function oneAtATime<T>(what: keyof typeof locks, work: () => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: process.env["LAUREL_TEST_ADMIN_URLS"]?.split(" ")[0] });
  await client.connect();
  try {
    await client.query("select pg_advisory_lock($1)", [locks[what]]);
    return await work();
  } finally {
    await client.end();
  }
}
