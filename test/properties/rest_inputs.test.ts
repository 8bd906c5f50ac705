import { Agent, createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { z } from "zod";
import { adminOperations } from "../../src/rest/admin.ts";
import { errorAnswer } from "../../src/rest/answers.ts";
import { applicationOperations } from "../../src/rest/application.ts";
import type { Operation } from "../../src/rest/operations.ts";
import { createStoredState, internals, nearly, number, type Schema, seedOf, text } from "../support/inputs.ts";
import { idsOf, type RestApi, startRestApi } from "../support/rest.ts";

/**
 * Every operation against requests of about its own shape, wrong in every place and way by turns: never a 5xx, always
 * either an answer of its shape or a sentence (rule K2), and what is refused stores nothing. Repeat a failure with
 * LAUREL_TEST_SEED; LAUREL_TEST_RUNS makes more of them.
 */

const runs = Number(process.env["LAUREL_TEST_RUNS"] ?? 4);
const seed = seedOf("REST inputs");
const operations = [...applicationOperations, ...adminOperations].map((operation) => [`${operation.api} ${operation.method} ${operation.path}`, operation] as const);

let rest: RestApi;
let server: Server;
let port: number;
let storedState: () => Promise<string>;
/** What is stored, as long as nothing was done since it was looked at. */
let stored: string | undefined;
const agent = new Agent({ keepAlive: true });
const known: Record<string, string[]> = {
  attribute: ["plan", "device"], key: ["words", "xp", "done"], tz: ["Europe/London"], userId: ["ann"], customerId: ["acme"], occurredAt: ["2026-01-01T00:00:00Z"],
  signUpDate: ["2026-01-01"], at: ["2026-01-01T00:00:00Z"], email: ["a@example.com"], userAttributes: ["plan:pro", "plan", ":", "plan:a,plan:b", "nope:x"], cursor: ["5"],
};

beforeAll(async () => {
  rest = await startRestApi();
  const ids = [
    ...idsOf(await rest.as().post("/admin/v1/attributes", [{ name: "Plan", key: "plan", type: "user" }, { name: "Device", key: "device", type: "event" }])),
    ...idsOf(await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }])),
    ...idsOf(await rest.as().post("/admin/v1/achievements", [{ name: "Done", trigger: "api", key: "done", status: "active" }])),
  ];
  const [systemId = ""] = idsOf(await rest.as().post("/admin/v1/points", [{
    name: "XP", key: "xp", levels: [{ name: "A", key: "a", points: 0 }], boosts: [{ name: "B", start: "2026-01-01", multiplier: 2 }],
    triggers: [{ type: "user_creation", points: 3, status: "active" }],
  }]));
  for (const part of ["levels", "boosts", "triggers"]) {
    ids.push(...((await rest.as().get(`/admin/v1/points/${systemId}/${part}`)).body as { id: string }[]).map(({ id }) => id));
  }
  known["id"] = [...ids, systemId, "ann"];
  known["systemId"] = [systemId];
  await rest.as().post("/v1/users", { id: "ann" }).expect(201);
  storedState = await createStoredState(rest.database.pools.owner);
  server = createServer(rest.app);
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  ({ port } = server.address() as AddressInfo);
});

afterAll(async () => {
  agent.destroy();
  await new Promise((resolve) => server.close(resolve));
});

interface Sent {
  readonly path: string;
  readonly body: Buffer | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

async function send(method: string, { path, body, headers }: Sent): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const started = request(
      { host: "127.0.0.1", port, agent, method: method.toUpperCase(), path, headers: { ...headers, "Content-Length": body?.length ?? 0 } },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() });
        });
      },
    );
    started.on("error", reject);
    started.end(body);
  });
}

/** Percent-encoded as UTF-8 even where that cannot be: a lone surrogate becomes bytes that are none. */
const encode = (part: string): string => (part.isWellFormed() ? encodeURIComponent(part) : "%ED%A0%80");

const pathOf = ({ api, path }: Operation): fc.Arbitrary<string> =>
  fc.tuple(...path.split("/").map((part) =>
    part.startsWith(":")
      ? fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...(part === ":id" && api === "application" ? ["ann"] : (known[part.slice(1)] ?? []))) }, { weight: 1, arbitrary: text })
        .map((given) => (given === "." || given === ".." || given === "" ? "%20" : encode(given).slice(0, 3_000)))
      : fc.constant(part)))
    .map((parts) => `${api === "admin" ? "/admin/v1" : "/v1"}${parts.join("/")}`);

const queryOf = ({ query }: Operation): fc.Arbitrary<string> => {
  const shape = z.toJSONSchema(query ?? z.object({}), { io: "input", unrepresentable: "any" }) as Schema;
  const parts = Object.entries(shape.properties ?? {}).map(([name, one]) =>
    fc.array(fc.oneof(nearly(one, known, name), text, number), { maxLength: 2, minLength: shape.required?.includes(name) === true ? 1 : 0 })
      .map((values) => values.map((value) => `${name}=${encode(typeof value === "string" ? value : JSON.stringify(value)).slice(0, 3_000)}`)));
  return fc.tuple(...parts).map((all) => all.flat().join("&"));
};

/** Mostly what was made; sometimes with a byte of it changed, cut off, a key doubled, or deep below. */
const bytesOf = (value: fc.Arbitrary<unknown>): fc.Arbitrary<Buffer> =>
  fc.oneof(
    { weight: 12, arbitrary: value.map((given) => Buffer.from(JSON.stringify(given))) },
    { weight: 1, arbitrary: fc.tuple(value, fc.nat(), fc.nat(255)).map(([given, at, byte]) => {
      const bytes = Buffer.from(JSON.stringify(given));
      bytes[at % bytes.length] = byte;
      return bytes;
    }) },
    { weight: 1, arbitrary: value.map((given) => Buffer.from(JSON.stringify(given).replace(/"(\w+)":/, '"$1":null,"$1":'))) },
    { weight: 1, arbitrary: value.map((given) => Buffer.from(JSON.stringify(given).slice(0, -1))) },
    { weight: 1, arbitrary: value.map((given) => Buffer.from(JSON.stringify(given).replace(/:/, `:${"[".repeat(5_000)}${"]".repeat(5_000)},"y":`))) },
  );

/** Header values as callers' libraries let them through: bytes of UTF-8. */
const header = (...sound: string[]): fc.Arbitrary<string> =>
  fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...sound) }, { weight: 1, arbitrary: text })
    .map((given) => Buffer.from(given.slice(0, 1_000)).toString("latin1").replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, ""));

const requestOf = (operation: Operation): fc.Arbitrary<Sent> =>
  fc.record({
    path: fc.tuple(pathOf(operation), queryOf(operation)).map(([path, query]) => (query === "" ? path : `${path}?${query}`)),
    body: operation.body === undefined
      ? fc.constant(undefined)
      : bytesOf(nearly(z.toJSONSchema(operation.body, { io: "input", unrepresentable: "any", reused: "inline" }) as Schema, known)),
    headers: fc.record(
      {
        "Content-Type": header("application/json", "application/json; charset=utf-8"),
        "Tenant-ID": header("default", ""),
        "Idempotency-Key": header("k", "l"),
      },
      { requiredKeys: ["Content-Type"], noNullPrototype: true },
    ).map((headers) => ({ ...headers, "X-API-KEY": rest.adminKey.secret })),
  });

const tally = { done: 0, refused: 0 };

test.each(operations)("%s", async (_name, operation) => {
  await fc.assert(
    fc.asyncProperty(fc.constant(undefined).chain(() => requestOf(operation)), async (sent) => {
      const before = (stored ??= await storedState());
      const answer = await send(operation.method, sent);
      const about = JSON.stringify({ path: sent.path, headers: { ...sent.headers, "X-API-KEY": "" }, body: sent.body?.toString(), answer });
      expect(answer.status < 500 || about).toBe(true);
      const body = JSON.parse(answer.body) as { issues?: { message: string }[]; error?: string };
      if (answer.status < 300) {
        tally.done += 1;
        stored = undefined;
        const shape = operation.answers[answer.status];
        expect(shape?.safeParse(body).error?.message ?? (shape === undefined ? about : "")).toBe("");
        for (const { message } of body.issues ?? []) expect(internals.test(message) ? about : "").toBe("");
        return;
      }
      tally.refused += 1;
      expect(errorAnswer.safeParse(body).success || about).toBe(true);
      expect(internals.test(body.error ?? "") ? about : "").toBe("");
      expect(body.error).toMatch(/\.$/);
      expect((stored = await storedState()) === before || about).toBe(true);
    }),
    { seed, numRuns: runs },
  );
});

test("both what is right and what is wrong were tried", () => {
  process.stdout.write(`REST inputs: ${operations.length} operations, ${tally.done} requests done, ${tally.refused} refused\n`);
  expect(tally.done).toBeGreaterThan(operations.length / 4);
  expect(tally.refused).toBeGreaterThan(operations.length);
});
