import { bodyLimitBytes } from "./bodies.ts";
import { decimalOf } from "./decimals.ts";
import { type Call, claimed, type Operation } from "./operations.ts";
import { wholeParameter } from "./parameters.ts";
import { eventShape, identifiedUserShape, parseShape, profileShape } from "./shapes.ts";

const recordEventStatement = claimed(
  "record_event",
  "laurel.record_event($3, $4, $5::numeric, $6::jsonb, $7, $8::timestamptz, $9::jsonb)",
);

/**
 * Records an event: 201, or 202 for a repeated Idempotency-Key (rule E4). An extension of ours: `occurredAt`, when
 * it happened (rule E8).
 */
export const recordEvent: Operation = {
  api: "application",
  method: "post",
  path: "/metrics/:key/event",
  bodyLimitBytes,
  answer: async ({ params, body, header, run }) => {
    const { user, attributes, occurredAt } = parseShape(eventShape, body.value);
    const { body: answer = "" } = await run(recordEventStatement, [
      params["key"],
      user.id,
      decimalOf(body),
      JSON.stringify(attributes ?? {}),
      header("idempotency-key") ?? null,
      occurredAt ?? null,
      JSON.stringify(user),
    ]);
    // No text inside the answer can hold this: quotes within texts are escaped.
    return { status: answer.includes('"idempotentReplayed": true') ? 202 : 201, body: answer };
  },
};

const identifyStatement = claimed("identify_user", "laurel.identify_user($3, $4::jsonb)");
const updateStatement = claimed("update_user", "laurel.update_user($3, $4::jsonb)");
const profileStatement = claimed("user_profile", "laurel.user_profile($3)");
const userPointsStatement = claimed("user_points", "laurel.user_points($3, $4, $5::int)");

/** Identifies a user by the ID in the body: 201, whether it was there already or not (rule U2). */
const createUser: Operation = {
  api: "application",
  method: "post",
  path: "/users",
  bodyLimitBytes,
  answer: async ({ body, run }) => {
    const { id, ...profile } = parseShape(identifiedUserShape, body.value);
    const { body: answer = "" } = await run(identifyStatement, [id, JSON.stringify(profile)]);
    return { status: 201, body: answer };
  },
};

const getUser: Operation = {
  api: "application",
  method: "get",
  path: "/users/:id",
  answer: async ({ params, run }) => {
    const { body = "" } = await run(profileStatement, [params["id"]]);
    return { status: 200, body };
  },
};

/** Identifies the user of the address: adds it, or changes what the body gives. */
const identifyUser: Operation = {
  api: "application",
  method: "put",
  path: "/users/:id",
  bodyLimitBytes,
  answer: (call) => writeProfile(call, identifyStatement),
};

/** Changes a user that exists; 404 otherwise. */
const updateUser: Operation = {
  api: "application",
  method: "patch",
  path: "/users/:id",
  bodyLimitBytes,
  answer: (call) => writeProfile(call, updateStatement),
};

async function writeProfile(
  { params, body, run }: Call,
  statement: typeof identifyStatement,
): Promise<{ status: number; body: string }> {
  const profile = parseShape(profileShape, body.value);
  const { body: answer = "" } = await run(statement, [params["id"], JSON.stringify(profile)]);
  return { status: 200, body: answer };
}

/** A user's points in one system, with the latest `awards` (1 to 100, 10 unless told). */
const getUserPoints: Operation = {
  api: "application",
  method: "get",
  path: "/users/:id/points/:key",
  answer: async ({ params, query, run }) => {
    const awards = wholeParameter(query, "awards", { least: 1, most: 100, otherwise: 10 });
    const { body = "" } = await run(userPointsStatement, [params["key"], params["id"], awards]);
    return { status: 200, body };
  },
};

/** The application API's operations. */
export const applicationOperations: readonly Operation[] = [
  recordEvent, createUser, getUser, identifyUser, updateUser, getUserPoints,
];
