import { ConfigError, readConfig } from "../config.ts";
import { createLogger } from "../logs.ts";
import { openDatabase } from "../postgres/database.ts";

/** `npm run migrate`: brings the database up to date and ends. */
try {
  const config = readConfig();
  const database = await openDatabase(config, createLogger(config.logLevel));
  await database.close();
  process.stdout.write("The database is up to date.\n");
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  process.stderr.write(`laurel: ${error.message}\n`);
  process.exitCode = 1;
}
