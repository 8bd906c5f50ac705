import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";
import { aClock, aDispatcher, aReceivingEndpoint, attempts, deliveries, writeMessages } from "../support/dispatch.ts";
import { faults } from "../support/faulty_receivers.ts";

/**
 * Rules H2 and H5 against receivers that do everything wrong: whatever one does, each message is delivered at least
 * once or visibly parked, nothing private is connected to, and at most 16 kB of an answer are read. The clock is the
 * test's own: 31 hours of retries take as long as the requests do. LAUREL_FAULT_MESSAGES=200 is the long form, which
 * also prints a table of what came of it.
 */

const asked = process.env["LAUREL_FAULT_MESSAGES"];
const count = Number(asked ?? "6");
/** Requests at once. */
const maxConcurrency = 100;
/** How long a receiver that never answers is waited for, here; others are given the time that a busy machine needs. */
const silenceMs = 250;
const patienceMs = 15_000;
/** Each a minute later than the pause before the attempt that it makes due, since attempts take time; the last is when nothing more may happen. */
const advances = [65, 360, 3_660, 7_260, 18_060, 36_060, 50_460, 86_460];
const outcomes: string[][] = [["a receiver that", "delivered", "parked", "attempts", "kB read at most"]];

afterAll(() => {
  if (asked === undefined) return;
  const widths = outcomes[0]?.map((_, column) => Math.max(...outcomes.map((cells) => cells[column]?.length ?? 0))) ?? [];
  const line = (cells: string[]): string => cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join("  ");
  process.stdout.write(`\n${count} messages to each\n\n${outcomes.map(line).join("\n")}\n\n`);
});

let database: TestDatabase;

beforeAll(async () => {
  database = await cloneDatabase();
});

test.each(faults)("a receiver that $name", async ({ name, start, outcome, isForbidden, isGone, isSilent, error }) => {
  await database.pools.owner.query("delete from laurel.webhook_endpoints");
  const receiver = await start();
  const clock = aClock();
  const dispatcher = aDispatcher(database, clock, { timeoutMs: isSilent === true ? silenceMs : patienceMs, ...(receiver.resolve === undefined ? {} : { resolve: receiver.resolve }) });
  try {
    const endpoint = await aReceivingEndpoint(database, receiver.url, { maxConcurrency });
    await writeMessages(database, Array.from({ length: count }, (_, no) => `user ${no}`));
    let made = await dispatcher.runOnce();
    // One that is gone says so to the first, and the rest is parked unsent.
    const sent = isGone === true ? Math.min(count, maxConcurrency) : count;
    expect(made).toBe(sent);
    for (const seconds of advances) {
      clock.advance(seconds);
      made = await dispatcher.runOnce();
    }
    // After the schedule is over nothing is tried any more.
    expect(made).toBe(0);
    const found = await deliveries(database, endpoint);
    expect(found.map(({ status }) => status)).toEqual(Array.from({ length: count }, () => outcome));
    const log = await attempts(database, endpoint);
    if (outcome === "delivered") {
      for (const { message_id } of found) expect(receiver.received.get(message_id)).toBeGreaterThanOrEqual(1);
    } else {
      expect(found.every(({ last_error }) => last_error !== null && (error ?? /./).test(last_error))).toBe(true);
    }
    expect(log.length).toBeGreaterThanOrEqual(sent);
    const mostRead = Math.max(...log.map(({ response }) => Buffer.byteLength(response ?? "")));
    expect(mostRead).toBeLessThanOrEqual(16_384);
    // What the kernels between the two hold; an answer without end would go on to megabytes.
    expect(receiver.mostSent()).toBeLessThan(8 * 1024 * 1024);
    if (isForbidden === true) expect(receiver.connections()).toBe(0);
    const how = (status: string): string => String(found.filter((delivery) => delivery.status === status).length);
    outcomes.push([name, how("delivered"), how("parked"), String(log.length), (mostRead / 1024).toFixed(1)]);
  } finally {
    await receiver.close();
    await dispatcher.stop();
  }
}, 180_000);
