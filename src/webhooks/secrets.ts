import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from "node:crypto";
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Webhook } from "standardwebhooks";

/** Seals secrets before they go to the database, and opens them when something is to be signed. */
export interface SecretBox {
  seal: (secret: string) => Buffer;
  /** Throws when none of the keys opens it. */
  open: (sealed: Buffer) => string;
}

const algorithm = "aes-256-gcm";
const nonceBytes = 12;
const tagBytes = 16;

/**
 * A box with one or more keys of 32 bytes: the first seals, all open, so that a key can be replaced. A sealed
 * secret is nonce, tag and ciphertext.
 */
export function createSecretBox(keys: readonly Buffer[]): SecretBox {
  const [first] = keys;
  if (first === undefined) throw new Error("a box needs a key");
  return {
    seal: (secret) => {
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv(algorithm, first, nonce);
      const hidden = Buffer.concat([cipher.update(secret, "utf8"), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), hidden]);
    },
    open: (sealed) => {
      for (const key of keys) {
        try {
          const decipher = createDecipheriv(algorithm, key, sealed.subarray(0, nonceBytes));
          decipher.setAuthTag(sealed.subarray(nonceBytes, nonceBytes + tagBytes));
          return Buffer.concat([decipher.update(sealed.subarray(nonceBytes + tagBytes)), decipher.final()]).toString("utf8");
        } catch {
          continue;
        }
      }
      throw new Error("the webhook's secret was sealed with another LAUREL_SECRET_KEY; rotate it");
    },
  };
}

/** The keys of `LAUREL_SECRET_KEY`: a passphrase of any form, or several with commas between them. */
export function keysFrom(text: string): Buffer[] {
  return text.split(",").map((part) => part.trim()).filter((part) => part !== "")
    .map((part) => createHash("sha256").update(part).digest());
}

/**
 * The key kept in a file, made when there is none. Of several processes that start together all get the same: the
 * file appears under its name as a whole, and the first wins.
 */
export function keyFromFile(path: string): Buffer {
  if (!existsSync(path)) {
    mkdirSync(dirname(path), { recursive: true });
    const draft = `${path}.${process.pid}`;
    writeFileSync(draft, `${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
    try {
      linkSync(draft, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    } finally {
      rmSync(draft);
    }
  }
  const [key] = keysFrom(readFileSync(path, "utf8"));
  if (key === undefined) throw new Error(`${path} holds no key`);
  return key;
}

/**
 * The box of this process: with the configured keys, or for the embedded server with one that its data folder keeps.
 * Undefined when there is neither; then no endpoint can be made over HTTP and nothing is sent.
 */
export function provideSecretBox(secretKey: string | undefined, dataDirectory: string | undefined): SecretBox | undefined {
  if (secretKey !== undefined) return createSecretBox(keysFrom(secretKey));
  return dataDirectory === undefined ? undefined : createSecretBox([keyFromFile(join(dataDirectory, "secret.key"))]);
}

/** A new secret, in the form that Standard Webhooks gives them. */
export function generateWebhookSecret(): string {
  return `whsec_${randomBytes(32).toString("base64")}`;
}

/**
 * The headers that sign a body (rule H2). Standard Webhooks has room for a signature by each secret.
 * X-Trophy-Signature, which receivers compare as it is, has room for one: while two secrets are in use, the newer
 * signs the first attempt, the older the second, and so on in turn, so that whichever a receiver has, what it
 * refuses comes again with its own a few seconds later.
 */
export function signatureHeaders(options: {
  readonly id: string;
  readonly at: Date;
  readonly body: string;
  /** The newest first. */
  readonly secrets: readonly string[];
  readonly failedAttempts: number;
}): Record<string, string> {
  const { id, at, body, secrets, failedAttempts } = options;
  const signatures = secrets.map((secret) => webhookOf(secret).sign(id, at, body));
  const turn = secrets[failedAttempts % secrets.length] ?? "";
  return {
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": signatures.join(" "),
    "x-trophy-signature": createHmac("sha256", turn).update(body, "utf8").digest("base64"),
  };
}

/** Secrets that came from elsewhere need not be base64: they are used as they are. */
function webhookOf(secret: string): Webhook {
  return isStandardSecret(secret) ? new Webhook(secret) : new Webhook(secret, { format: "raw" });
}

const isStandardSecret = (secret: string): boolean => /^whsec_[A-Za-z0-9+/]+={0,2}$/.test(secret);
