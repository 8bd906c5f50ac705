import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { projectDirectory } from "../../src/config.ts";

/** Any number, the same in every file: one of them builds, the others wait for it. */
const lockNumber = 4_120_711;

/** Makes sure that the dashboard that is served was built from the sources as they are. */
export async function builtDashboard(): Promise<void> {
  const client = new Client({ connectionString: process.env["LAUREL_TEST_ADMIN_URL"] });
  await client.connect();
  try {
    await client.query("select pg_advisory_lock($1)", [lockNumber]);
    // In a process of its own, as at install: the bundler keeps threads.
    await promisify(execFile)(process.execPath, ["--disable-warning=ExperimentalWarning", join(projectDirectory, "src/cli/build_dashboard.ts")]);
  } finally {
    await client.end();
  }
}
