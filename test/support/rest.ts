import type { RequestListener } from "node:http";
import request from "supertest";
import { type ApiKey, generateApiKey } from "../../src/api_keys.ts";
import { cloneDatabase, type TestDatabase } from "./database.ts";
import { createTestApp } from "./http.ts";

/** The REST APIs over a database of the test file's own, with an admin key. */
export interface RestApi {
  readonly database: TestDatabase;
  readonly app: RequestListener;
  readonly adminKey: ApiKey;
  /** Starts requests with a key, the admin's unless told. */
  readonly as: (key?: ApiKey) => {
    readonly get: (path: string) => request.Test;
    readonly post: (path: string, body?: unknown) => request.Test;
    readonly put: (path: string, body?: unknown) => request.Test;
    readonly patch: (path: string, body?: unknown) => request.Test;
    readonly delete: (path: string) => request.Test;
  };
  /** Makes a key that acts for one user of a tenant, which is made if new. */
  createApplicationKey: (userId: string, customerId?: string) => Promise<ApiKey>;
  createTenant: (customerId: string) => Promise<void>;
}

/** Starts it; once per file, in `beforeAll`. */
export async function startRestApi(): Promise<RestApi> {
  const database = await cloneDatabase();
  const { owner } = database.pools;
  const app = createTestApp(database.pools);
  const adminKey = generateApiKey();
  await owner.query("select laurel_private.ensure_admin_key($1, $2)", [adminKey.prefix, adminKey.sha256]);
  const createTenant = async (customerId: string): Promise<void> => {
    await owner.query("insert into laurel.tenants (customer_id, name) values ($1, $1) on conflict do nothing", [customerId]);
  };
  return {
    database,
    app,
    adminKey,
    createTenant,
    as: (key = adminKey) => {
      const start =
        (method: "get" | "post" | "put" | "patch" | "delete") =>
        (path: string, body?: unknown): request.Test => {
          const started = request(app)[method](path).set("X-API-KEY", key.secret);
          return body === undefined ? started : started.send(body as object);
        };
      return { get: start("get"), post: start("post"), put: start("put"), patch: start("patch"), delete: start("delete") };
    },
    createApplicationKey: async (userId, customerId = "default") => {
      await createTenant(customerId);
      const key = generateApiKey();
      await owner.query(
        `insert into laurel_private.api_keys (kind, prefix, key_sha256, tenant_id, user_id)
         select 'application', $1, $2, id, $3 from laurel.tenants where customer_id = $4`,
        [key.prefix, key.sha256, userId, customerId],
      );
      return key;
    },
  };
}

/** The IDs of what a POST of the admin API created. */
export function idsOf(response: request.Response): string[] {
  const { created } = response.body as { created: { id: string }[] };
  return created.map(({ id }) => id);
}

/** The issues' sentences of an answer of the admin API. */
export function sentencesOf(response: request.Response): string[] {
  const { issues } = response.body as { issues: { message: string }[] };
  return issues.map(({ message }) => message);
}
