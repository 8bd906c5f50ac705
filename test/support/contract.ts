import { beforeAll, expect } from "@jest/globals";
import type { Response } from "supertest";
import { adminOperations } from "../../src/rest/admin.ts";
import { errorAnswer } from "../../src/rest/answers.ts";
import { applicationOperations } from "../../src/rest/application.ts";
import type { Operation } from "../../src/rest/operations.ts";
import { readReference, type ReferenceApi } from "./reference.ts";
import { type RestApi, startRestApi } from "./rest.ts";

/** What the parts of the contract's test share: one database, whose answers are all held against the contract. */
export interface Contract {
  readonly rest: () => RestApi;
  /** Sends a request, and holds the answer's status and body against the contract. */
  readonly call: (
    api: ReferenceApi,
    method: "get" | "post" | "put" | "patch" | "delete",
    path: string,
    status: number,
    options?: {
      readonly params?: Readonly<Record<string, string>>;
      readonly query?: string;
      readonly body?: unknown;
      readonly idempotencyKey?: string;
    },
  ) => Promise<Response>;
  /** The statuses answered so far, by operation. */
  readonly seen: ReadonlyMap<string, ReadonlySet<number>>;
}

/** The contract, where it is there. */
export const reference = readReference();

/** An ID that nothing has. */
export const nobody = "00000000-0000-7000-8000-000000000000";

/** How operations are named here, as in the contract: "admin get /points/{id}". */
export const addressOf = ({ api, method, path }: Operation): string => `${api} ${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`;

export const operations: readonly Operation[] = [...applicationOperations, ...adminOperations];
export const operationsByAddress: ReadonlyMap<string, Operation> = new Map(operations.map((operation) => [addressOf(operation), operation]));

/** Starts it; to be called in a `describe`. */
export function startContract(): Contract {
  let rest: RestApi;
  const seen = new Map<string, Set<number>>();

  beforeAll(async () => {
    rest = await startRestApi();
  });

  return {
    seen,
    rest: () => rest,
    call: async (api, method, path, status, { params = {}, query = "", body, idempotencyKey } = {}) => {
      const address = path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => encodeURIComponent(params[name] ?? ""));
      const started = rest.as()[method](`${api === "admin" ? "/admin/v1" : "/v1"}${address}${query}`, body);
      if (idempotencyKey !== undefined) void started.set("Idempotency-Key", idempotencyKey);
      const response = await started;
      expect({ status: response.status, text: response.text }).toEqual({ status, text: response.text });
      const operation = operationsByAddress.get(`${api} ${method} ${path}`);
      const shape = status >= 400 ? errorAnswer : operation?.answers[status];
      expect({ path, status, documented: shape !== undefined }).toEqual({ path, status, documented: true });
      expect({ fault: shape?.safeParse(response.body).error?.message, text: response.text }).toEqual({ text: response.text });
      if (reference?.has(api, method, path) === true) {
        // A replay is answered with a status of its own (rule E4), and the body of a first use.
        const contractStatus = path === "/metrics/{key}/event" && status === 202 ? 201 : status;
        const faults = reference.faultsOf({ api, method, path, status: contractStatus, body: response.body });
        expect({ faults, text: response.text }).toEqual({ faults: [], text: response.text });
      }
      const statuses = seen.get(`${api} ${method} ${path}`) ?? new Set<number>();
      seen.set(`${api} ${method} ${path}`, statuses.add(status));
      return response;
    },
  };
}
