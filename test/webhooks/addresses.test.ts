import { describe, expect, test } from "@jest/globals";
import { parseNetworks } from "../../src/config.ts";
import { isAllowedAddress } from "../../src/webhooks/addresses.ts";
import { withRollback } from "../support/database.ts";

/** Rule H5: what may be connected to, judged here at every connection and in SQL when an endpoint is saved. */

const publicOnes = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255", "192.167.255.255", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"];
const others = [
  "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255",
  "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
  "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1",
  "2001::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1",
];

test.each(publicOnes)("%s is public", async (address) => {
  expect(isAllowedAddress(address, [])).toBe(true);
  expect(await inSql(address)).toBe(true);
});

test.each(others)("%s is not", async (address) => {
  expect(isAllowedAddress(address, [])).toBe(false);
  expect(await inSql(address)).toBe(false);
});

describe("networks that are allowed", () => {
  test("open what they name, in whatever form an address comes, and nothing else", () => {
    const allowed = parseNetworks("10.1.0.0/16, ::1/128");
    for (const address of ["10.1.2.3", "::ffff:10.1.2.3", "::1"]) expect([address, isAllowedAddress(address, allowed)]).toEqual([address, true]);
    for (const address of ["10.2.0.1", "127.0.0.1", "fe80::1", "fe80::1%eth0", "nonsense", ""]) expect([address, isAllowedAddress(address, allowed)]).toEqual([address, false]);
    expect(() => parseNetworks("10.0.0.0/33")).toThrow();
    expect(() => parseNetworks("everything")).toThrow();
  });
});

async function inSql(address: string): Promise<unknown> {
  return withRollback(async (db) =>
    (await db.query<{ answer: boolean }>("select laurel_private.is_public_address($1::inet) as answer", [address])).rows[0]?.answer);
}
