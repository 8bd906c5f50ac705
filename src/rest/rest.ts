import type { IncomingMessage, ServerResponse } from "node:http";
import { Router } from "express";
import { adminOperations } from "./admin.ts";
import { recordEvent } from "./application/events.ts";
import { userPoints } from "./application/points.ts";
import { applicationOperations } from "./application.ts";
import { answerError, type Operation, type OperationDependencies, serve } from "./operations.ts";
import { Refusal } from "./refusals.ts";

/** The REST APIs, ready to be mounted. */
export interface Rest {
  /** Answers /v1, its alias /api, and /admin/v1; everything below them, unknown addresses included. */
  readonly router: Router;
  /**
   * Answers the operations that come in thousands a second without going through Express, which alone costs
   * several times what they do. False, and nothing done, for every other request, which then goes to the router.
   */
  answerFrequent: (request: IncomingMessage, response: ServerResponse) => boolean;
}

/** Makes the REST APIs (rule W3). */
export function createRest(dependencies: OperationDependencies): Rest {
  const router = Router({ caseSensitive: true });
  const application = createApiRouter(dependencies, applicationOperations);
  router.use("/v1", application);
  // Older client libraries say /api.
  router.use("/api", application);
  router.use("/admin/v1", createApiRouter(dependencies, adminOperations));
  return {
    router,
    answerFrequent: (request, response) => {
      for (const { method, address, operation } of frequent) {
        const params = request.method === method ? address.exec(request.url ?? "")?.groups : undefined;
        if (params === undefined) continue;
        void serve(dependencies, operation, params, request, response);
        return true;
      }
      return false;
    },
  };
}

/** Plain addresses only: an odd one is left to the router. */
const frequent = [
  { method: "POST", address: /^\/(?:v1|api)\/metrics\/(?<key>[\w-]+)\/event(?:\?|$)/, operation: recordEvent },
  { method: "GET", address: /^\/(?:v1|api)\/users\/(?<id>[\w-]+)\/points\/(?<key>[\w-]+)(?:\?|$)/, operation: userPoints },
];

function createApiRouter(dependencies: OperationDependencies, operations: readonly Operation[]): Router {
  const router = Router({ caseSensitive: true });
  const methodsByPath = new Map<string, string[]>();
  for (const operation of operations) {
    router[operation.method](operation.path, async (request, response) => {
      await serve(dependencies, operation, textParams(request.params), request, response);
    });
    const methods = methodsByPath.get(operation.path) ?? [];
    methods.push(operation.method.toUpperCase());
    methodsByPath.set(operation.path, methods);
  }
  for (const [path, methods] of methodsByPath) {
    const allowed = methods.includes("GET") ? [...methods, "HEAD"] : methods;
    router.all(path, (request) => {
      throw new Refusal(405, `${request.method} is not possible here; ${allowed.join(", ")} is.`, {
        headers: { Allow: allowed.join(", ") },
      });
    });
  }
  router.use(() => {
    throw new Refusal(404, "There is nothing at this address.");
  });
  router.use((error: unknown, request: IncomingMessage, response: ServerResponse, next: (error: unknown) => void) => {
    if (response.headersSent) next(error);
    else answerError(dependencies.logger, error, request, response);
  });
  return router;
}

function textParams(params: Readonly<Record<string, string | string[]>>): Record<string, string> {
  return Object.fromEntries(Object.entries(params).map(([name, value]) => [name, String(value)]));
}
