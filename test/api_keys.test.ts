import { createHash } from "node:crypto";
import { expect, test } from "@jest/globals";
import { generateApiKey, parseApiKey } from "../src/api_keys.ts";

test("a generated key is read back as itself", () => {
  const key = generateApiKey();
  expect(parseApiKey(key.secret)).toEqual(key);
  expect(key.sha256).toEqual(createHash("sha256").update(key.secret).digest());
});

test("generated keys differ", () => {
  expect(generateApiKey().secret).not.toBe(generateApiKey().secret);
});

test.each([
  [`a.${"x".repeat(32)}`, true],
  [`a.${"x".repeat(31)}`, false],
  [`.${"x".repeat(32)}`, false],
  ["x".repeat(64), false],
  ["", false],
])("%j has the form of a key: %s", (secret, hasForm) => {
  expect(parseApiKey(secret) !== undefined).toBe(hasForm);
});
