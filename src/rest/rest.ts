import type { IncomingMessage, ServerResponse } from "node:http";
import { Router } from "express";
import { adminOperations } from "./admin.ts";
import { recordEvent } from "./application/events.ts";
import { applicationOperations } from "./application.ts";
import { answerError, type Operation, type OperationDependencies, serve } from "./operations.ts";
import { Refusal } from "./refusals.ts";

/** The REST APIs, ready to be mounted. */
export interface Rest {
  /** Answers /v1, its alias /api, and /admin/v1; everything below them, unknown addresses included. */
  readonly router: Router;
  /**
   * Answers the one operation that comes in thousands a second without going through Express, which alone costs
   * several times what it does. False, and nothing done, for every other request, which then goes to the router.
   */
  answerEvent: (request: IncomingMessage, response: ServerResponse) => boolean;
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
    answerEvent: (request, response) => {
      const key = request.method === "POST" ? eventKeyOf(request.url ?? "") : undefined;
      if (key === undefined) return false;
      void serve(dependencies, recordEvent, { key }, request, response);
      return true;
    },
  };
}

/** The metric's key when the address is that of an event, and plain; an odd one is left to the router. */
function eventKeyOf(url: string): string | undefined {
  return /^\/(?:v1|api)\/metrics\/([A-Za-z0-9_-]+)\/event(?:\?|$)/.exec(url)?.[1];
}

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
        Allow: allowed.join(", "),
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
