import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import express, { type ErrorRequestHandler, type RequestHandler, type Response } from "express";
import helmet from "helmet";
import type { Logger } from "pino";
import { type Config, ConfigError } from "./config.ts";
import { createDashboard } from "./dashboard/serve.ts";
import type { AuthenticateGraphql } from "./graphql/callers.ts";
import { createGraphql } from "./graphql/endpoint.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { type HttpError, toHttpError } from "./postgres/errors.ts";
import type { Pools } from "./postgres/pools.ts";
import { type Authenticate, createAuthenticator, tenantOf } from "./rest/callers.ts";
import { createDocs } from "./rest/docs.ts";
import { limitRate } from "./rest/rate_limits.ts";
import { createRest } from "./rest/rest.ts";
import type { SecretBox } from "./webhooks/secrets.ts";

/** What the HTTP side is made from. */
export interface AppDependencies {
  readonly config: Config;
  readonly pools: Pools;
  readonly logger: Logger;
  /** Seals webhook secrets; undefined when there is no key to do so. */
  readonly secrets?: SecretBox | undefined;
  /** True from the moment a stop was asked for: load balancers then look elsewhere. */
  readonly isDraining: () => boolean;
  /** Milliseconds between two looks at balances that subscriptions watch; a second unless told. */
  readonly watchIntervalMs?: number;
  /** Milliseconds on the clock by which looked-up keys are forgotten; the process's own unless told. */
  readonly now?: () => number;
}

const readinessDeadlineMs = 2_000;

/** The HTTP side of a process. */
export interface App {
  readonly listener: RequestListener;
  /** Answers connections that ask for a WebSocket. */
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** Ends what would go on for ever: subscriptions. */
  endStreams: () => void;
  /** Does ahead what the first requests would wait for. Rejects when the database is away; requests try again. */
  prepare: () => Promise<void>;
  /** Lets go of what was made, after the last request. */
  release: () => Promise<void>;
}

/** Makes the HTTP side, every way in: an Express app, and in front of it the operations that must be fast. */
export function createApp(dependencies: AppDependencies): App {
  const { config, pools, logger } = dependencies;
  const metrics = createMetrics(pools);
  const operations = new WeakMap<IncomingMessage, string>();
  const observe = createObserver(logger, metrics, operations);
  const authenticate = limitRate(createAuthenticator(pools.owner, dependencies.now), config.requestsPerMinute);
  const rest = createRest({
    pools,
    logger,
    authenticate,
    secrets: dependencies.secrets,
    noteOperation: (request, id) => {
      operations.set(request, id);
    },
  });
  const graphql = createGraphql({
    pools,
    logger,
    authenticate: forGraphql(authenticate),
    secrets: dependencies.secrets,
    isDevelopment: config.isDevelopment,
    ...(dependencies.watchIntervalMs === undefined ? {} : { watchIntervalMs: dependencies.watchIntervalMs }),
  });
  // Laurel itself speaks plain HTTP: whether there is HTTPS in front of it, for it and for its neighbours, is not for it to say.
  const secure = helmet({ contentSecurityPolicy: { directives: { upgradeInsecureRequests: null } }, strictTransportSecurity: false });
  const app = express();
  app.disable("x-powered-by");

  app.get("/healthz", (_request, response) => {
    response.json({ status: "ok" });
  });
  app.get("/readyz", answerReadiness(dependencies));
  app.get("/metrics", async (_request, response) => {
    response.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });

  app.use(createDocs());
  app.use(rest.router);
  app.use(graphql.handler);
  app.use(createDashboard());

  app.use((_request, response) => {
    response.status(404).json({ error: "There is nothing at this address." });
  });
  app.use(answerErrors(logger));
  return {
    listener: (request, response) => {
      observe(request, response);
      secure(request, response, () => {
        if (!rest.answerFrequent(request, response)) app(request, response);
      });
    },
    upgrade: (request, socket, head) => {
      if (graphql.upgrade(request, socket, head)) return;
      socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    },
    endStreams: graphql.endSubscriptions,
    prepare: graphql.prepare,
    release: graphql.release,
  };
}

/** Admin keys act as administrators of the tenant they name, application keys as their own user (spec K1, K3). */
function forGraphql(authenticate: Authenticate): AuthenticateGraphql {
  return async (request) => {
    const caller = await authenticate(request);
    const tenant = tenantOf(caller, request);
    return caller.kind === "admin"
      ? { role: "laurel_admin", tenant, userId: undefined, actor: caller.prefix, keyId: caller.keyId }
      : { role: "laurel_user", tenant, userId: caller.userId, actor: caller.prefix, keyId: caller.keyId };
  };
}

/**
 * Listens, and answers when it does. Throws `ConfigError` when host or port cannot be had.
 */
export async function listen(
  { listener, upgrade }: Pick<App, "listener" | "upgrade">,
  host: string,
  port: number,
): Promise<{ server: Server; url: string }> {
  const server = createServer(listener);
  server.on("upgrade", upgrade);
  server.on("clientError", answerUnreadable);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(error.code === undefined ? error : new ConfigError(reasonNotToListen(error.code, host, port)));
    });
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;
  const isLocal = ["127.0.0.1", "::1", "0.0.0.0", "::"].includes(address.address);
  const shown = isLocal ? "localhost" : address.family === "IPv6" ? `[${address.address}]` : address.address;
  return { server, url: `http://${shown}:${address.port}` };
}

/** What Node cannot read as a request never reaches the app, and is refused in the one form that all errors have (rule K2). */
function answerUnreadable(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, sentence] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? ["431 Request Header Fields Too Large", "The address and the headers are too large: at most 16 KiB are read."]
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? ["408 Request Timeout", "The request did not arrive in time."]
        : ["400 Bad Request", "The request is not valid HTTP."];
  const body = JSON.stringify({ error: sentence });
  socket.end(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

function reasonNotToListen(code: string, host: string, port: number): string {
  if (code === "EADDRINUSE") return `PORT: ${port} on ${host} is in use by another program`;
  if (code === "EACCES") return `PORT: ${port} needs rights this user lacks; choose one above 1023`;
  return `HOST: cannot listen on ${host} port ${port} (${code})`;
}

/**
 * Stops listening, lets requests in flight finish, and cuts off what is left when `deadlineMs` have passed.
 */
export async function closeServer(server: Server, deadlineMs: number): Promise<void> {
  const timer = setTimeout(() => {
    server.closeAllConnections();
  }, deadlineMs);
  await new Promise<void>((resolve) => {
    server.close(() => {
      resolve();
    });
    server.closeIdleConnections();
  });
  clearTimeout(timer);
}

/** Sends an error in the one form that all errors have. */
export function sendError(response: Response, error: HttpError): void {
  if (error.retryAfterSeconds !== undefined) response.set("Retry-After", String(error.retryAfterSeconds));
  response.status(error.status).json(error.body);
}

/** Request IDs as callers and proxies make them; others are replaced, so that logs stay readable. */
const requestIdForm = /^[\w.:/+=-]{1,128}$/;

/** Gives each request an ID, and counts and logs it when it is over. */
function createObserver(
  logger: Logger,
  metrics: Metrics,
  operations: WeakMap<IncomingMessage, string>,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    const start = performance.now();
    const given = request.headers["x-request-id"];
    const requestId = typeof given === "string" && requestIdForm.test(given) ? given : randomUUID();
    response.setHeader("X-Request-Id", requestId);
    response.on("close", () => {
      const durationMs = Math.round(performance.now() - start);
      const status = response.writableFinished ? response.statusCode : 499;
      const { method = "" } = request;
      // The path alone: a query may name users.
      const path = (request.url ?? "").replace(/\?.*$/s, "");
      const operation = operations.get(request) ?? placeOf(path);
      metrics.requestSeconds.observe({ operation, method: knownMethod(method), status: String(status) }, durationMs / 1000);
      if (logger.isLevelEnabled("debug")) {
        logger.debug({ requestId, operation, method, status, durationMs }, "answered a request");
      }
    });
  };
}

/** Where a request went that is no operation of REST's: few values, whatever callers send. */
function placeOf(path: string): string {
  const [, first = ""] = path.split("/");
  if (first === "" || first === "assets") return "dashboard";
  return ["graphql", "ruru-static", "healthz", "readyz", "metrics", "docs", "openapi"].includes(first) ? first : "none";
}

const knownMethod = (method: string): string =>
  ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].includes(method) ? method : "other";

function answerReadiness({ pools, isDraining, logger }: AppDependencies): RequestHandler {
  return async (_request, response) => {
    if (isDraining()) {
      sendError(response, { status: 503, body: { error: "Stopping." }, retryAfterSeconds: 5 });
      return;
    }
    try {
      await Promise.race([
        pools.service.query("select"),
        new Promise((_resolve, reject) => {
          setTimeout(reject, readinessDeadlineMs, new Error("timeout exceeded when trying to connect")).unref();
        }),
      ]);
      response.json({ status: "ready" });
    } catch (error) {
      logger.warn({ err: error }, "not ready");
      sendError(response, { status: 503, body: { error: "The database cannot be reached." }, retryAfterSeconds: 2 });
    }
  };
}

/** Turns what a handler threw into an answer; the log has what the caller must not see. */
function answerErrors(logger: Logger): ErrorRequestHandler {
  return (error: unknown, request, response, next) => {
    if (response.headersSent) {
      next(error);
      return;
    }
    const answer = errorOfBody(error) ?? toHttpError(error);
    if (answer.status >= 500) logger.error({ err: error, method: request.method, requestId: response.getHeader("X-Request-Id") }, "a request failed");
    sendError(response, answer);
  };
}

/** Errors of Express' body parsers, which carry a status of their own. */
function errorOfBody(error: unknown): HttpError | undefined {
  const { status, type } = error as { status?: unknown; type?: unknown };
  if (typeof type !== "string" || typeof status !== "number" || status >= 500) return undefined;
  if (status === 413) return { status, body: { error: "The body is too large." } };
  if (type === "entity.parse.failed") return { status, body: { error: "The body is not valid JSON." } };
  return { status, body: { error: "The body cannot be read." } };
}
