import { createHash, randomBytes } from "node:crypto";

/** An API key, `prefix.body`: the prefix is stored and shown, the whole key is a secret shown once (spec K1). */
export interface ApiKey {
  readonly prefix: string;
  /** The whole key as callers send it. */
  readonly secret: string;
  /** What is stored of it: SHA-256 of the whole key. The body's own randomness makes a slow hash needless. */
  readonly sha256: Buffer;
}

/** Makes a new key: a prefix of 11 characters and a body of 43 that holds 256 random bits. */
export function generateApiKey(): ApiKey {
  const prefix = `lk_${randomBytes(4).toString("hex")}`;
  return describeKey(prefix, `${prefix}.${randomBytes(32).toString("base64url")}`);
}

/** Takes a key apart; undefined when it does not have the form of one. */
export function parseApiKey(secret: string): ApiKey | undefined {
  const dot = secret.indexOf(".");
  if (dot < 1 || secret.length - dot - 1 < 32) return undefined;
  return describeKey(secret.slice(0, dot), secret);
}

function describeKey(prefix: string, secret: string): ApiKey {
  return { prefix, secret, sha256: createHash("sha256").update(secret).digest() };
}
