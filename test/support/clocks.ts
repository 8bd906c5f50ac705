import { waitFor } from "../../src/postgres/processes.ts";

/** A day begins at some quarter of an hour in every zone. */
const lengthsMs = { quarter: 900_000, hour: 3_600_000, day: 86_400_000 } as const;

/**
 * Before a test that counts quarters of an hour, hours or (UTC) days from the real clock, because the database's own
 * functions read it: when the current one is over within `seconds`, waits for the next. The test then sees one from start to end.
 */
export async function staysInOne(unit: keyof typeof lengthsMs, seconds = 30): Promise<void> {
  const leftMs = (): number => lengthsMs[unit] - (Date.now() % lengthsMs[unit]);
  await waitFor(`the next ${unit}`, (seconds + 10) * 1000, () => leftMs() > seconds * 1000);
}
