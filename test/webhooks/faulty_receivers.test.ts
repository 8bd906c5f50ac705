import { beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";
import { aClock, aDispatcher, aReceivingEndpoint, attempts, deliveries, writeMessages } from "../support/dispatch.ts";
import { faults } from "../support/faulty_receivers.ts";

/**
 * Rules H2 and H5 against receivers that do everything wrong: whatever one does, each message is delivered at least
 * once or visibly parked, nothing private is connected to, and at most 16 kB of an answer are read. The clock is the
 * test's own: 31 hours of retries take as long as the requests do. LAUREL_FAULT_MESSAGES=200 is the long form.
 */

const count = Number(process.env["LAUREL_FAULT_MESSAGES"] ?? "6");
/** How long a receiver that never answers is waited for, here. */
const timeoutMs = 250;
/** Each a little later than the pause before the attempt that it makes due; the last is when nothing more may happen. */
const advances = [6, 301, 3_601, 7_201, 18_001, 36_001, 50_401, 86_401];

let database: TestDatabase;

beforeAll(async () => {
  database = await cloneDatabase();
});

test.each(faults)("a receiver that $name", async ({ start, outcome, isForbidden, error }) => {
  await database.pools.owner.query("delete from laurel.webhook_endpoints");
  const receiver = await start();
  const clock = aClock();
  const dispatcher = aDispatcher(database, clock, { timeoutMs, ...(receiver.resolve === undefined ? {} : { resolve: receiver.resolve }) });
  try {
    const endpoint = await aReceivingEndpoint(database, receiver.url);
    await writeMessages(database, Array.from({ length: count }, (_, no) => `user ${no}`));
    let made = await dispatcher.runOnce();
    expect(made).toBe(count);
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
    expect(log.length).toBeGreaterThanOrEqual(count);
    for (const { response } of log) expect(Buffer.byteLength(response ?? "")).toBeLessThanOrEqual(16_384);
    // What the kernels between the two hold; an answer without end would go on to megabytes.
    expect(receiver.mostSent()).toBeLessThan(8 * 1024 * 1024);
    if (isForbidden === true) expect(receiver.connections()).toBe(0);
  } finally {
    await receiver.close();
    await dispatcher.stop();
  }
}, 180_000);
