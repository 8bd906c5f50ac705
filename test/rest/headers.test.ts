import type { IncomingMessage } from "node:http";
import { expect, test } from "@jest/globals";
import { singleHeader } from "../../src/rest/headers.ts";

function incoming(bytes: Buffer): IncomingMessage {
  return { headers: { "idempotency-key": bytes.toString("latin1") } } as unknown as IncomingMessage;
}

test.each(["order-1", "cl\u00e9-\u2603", "\u{1f600}"])("%s arrives as it was sent in UTF-8", (text) => {
  expect(singleHeader(incoming(Buffer.from(text)), "idempotency-key")).toBe(text);
});

test("what is not UTF-8 counts as Latin-1", () => {
  expect(singleHeader(incoming(Buffer.from([0x63, 0xe9])), "idempotency-key")).toBe("c\u00e9");
});
