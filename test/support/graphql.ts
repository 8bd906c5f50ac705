import type { RequestListener } from "node:http";
import request, { type Response } from "supertest";
import { type ApiKey, generateApiKey } from "../../src/api_keys.ts";
import type { Config } from "../../src/config.ts";
import { cloneDatabase, type TestDatabase } from "./database.ts";
import { createTestApp } from "./http.ts";

/** An error of a GraphQL answer. */
export interface GraphqlError {
  readonly message: string;
  readonly path?: readonly (string | number)[];
  readonly extensions?: { readonly code?: string; readonly hint?: string; readonly requestId?: string };
}

/** What came back, whatever it was. */
export interface GraphqlAnswer {
  readonly status: number;
  readonly data: Readonly<Record<string, unknown>> | null | undefined;
  readonly errors: readonly GraphqlError[] | undefined;
  /** The text of the body, for what must not appear in it. */
  readonly text: string;
}

/** A database of its own with two tenants (the default one and "acme"), keys, and the app in front of it. */
export interface GraphqlSetting {
  readonly database: TestDatabase;
  readonly app: RequestListener;
  readonly adminKey: ApiKey;
  /** The application keys of user ann of the default tenant, and of user bob of acme. */
  readonly annsKey: ApiKey;
  readonly bobsKey: ApiKey;
  /** Sends a query over HTTP. */
  ask: (query: string, options?: AskOptions) => Promise<GraphqlAnswer>;
  /** The same, for what must work: returns the data, and fails with the errors otherwise. */
  get: (query: string, options?: AskOptions) => Promise<Readonly<Record<string, unknown>>>;
}

/** How to send a query: by default with the admin key, for the default tenant. */
export interface AskOptions {
  readonly key?: ApiKey | undefined;
  readonly tenant?: string;
  readonly variables?: Readonly<Record<string, unknown>>;
  readonly operationName?: string;
}

/** Makes the setting; once per file, in `beforeAll`. */
export async function createGraphqlSetting(options: { config?: Partial<Config> } = {}): Promise<GraphqlSetting> {
  const database = await cloneDatabase();
  const { owner } = database.pools;
  const adminKey = generateApiKey();
  await owner.query("select laurel_private.ensure_admin_key($1, $2)", [adminKey.prefix, adminKey.sha256]);
  await owner.query("insert into laurel.tenants (customer_id, name) values ('acme', 'Acme')");
  const annsKey = await addApplicationKey(database, "default", "ann");
  const bobsKey = await addApplicationKey(database, "acme", "bob");
  const app = createTestApp(database.pools, options);
  const ask = async (query: string, { key = adminKey, tenant, variables, operationName }: AskOptions = {}): Promise<GraphqlAnswer> => {
    const response = await request(app)
      .post("/graphql")
      .set("X-API-KEY", key.secret)
      .set(tenant === undefined ? {} : { "Tenant-ID": tenant })
      .send({ query, variables, operationName });
    return answerOf(response);
  };
  const get = async (query: string, askOptions?: AskOptions): Promise<Readonly<Record<string, unknown>>> => {
    const answer = await ask(query, askOptions);
    if (answer.errors !== undefined || answer.data === undefined || answer.data === null) throw new Error(answer.text);
    return answer.data;
  };
  return { database, app, adminKey, annsKey, bobsKey, ask, get };
}

async function addApplicationKey(database: TestDatabase, tenant: string, userId: string): Promise<ApiKey> {
  const key = generateApiKey();
  await database.pools.owner.query(
    `insert into laurel_private.api_keys (kind, prefix, key_sha256, tenant_id, user_id)
     select 'application', $1, $2, t.id, $3 from laurel.tenants t where t.customer_id = $4`,
    [key.prefix, key.sha256, userId, tenant],
  );
  return key;
}

/** Reads a response of /graphql. */
export function answerOf(response: Response): GraphqlAnswer {
  const body = response.body as { data?: GraphqlAnswer["data"]; errors?: GraphqlError[] };
  return { status: response.status, data: body.data, errors: body.errors, text: response.text };
}

/** The answer to a document that the schema has no room for: refused by validation, nothing executed. */
export function isInvalid(answer: GraphqlAnswer, name: string): boolean {
  return answer.data === undefined && (answer.errors ?? []).some(({ message }) => message.includes(`"${name}"`));
}
