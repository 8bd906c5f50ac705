import "./environment.ts";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import express, { type ErrorRequestHandler, type RequestHandler } from "express";
import type { GrafservBase } from "grafserv";
import { grafserv } from "grafserv/express/v4";
import type { Logger } from "pino";
import { postgraphile } from "postgraphile";
import { readConstraintSentences, toHttpError } from "../postgres/errors.ts";
import type { Pools } from "../postgres/pools.ts";
import type { SecretBox } from "../webhooks/secrets.ts";
import { type BalanceWatch, createBalanceWatch } from "./balance_watch.ts";
import type { AuthenticateGraphql, GraphqlCaller } from "./callers.ts";
import { createErrorMask } from "./errors.ts";
import { createSockets } from "./sockets.ts";
import { createServerPreset, graphqlPath, idePath, largestBodyBytes } from "./preset.ts";

const ideContentPolicy = [
  "default-src 'self'",
  "script-src 'self' 'unsafe-inline'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self' data:",
  "worker-src 'self' blob:",
  "connect-src 'self'",
  "frame-ancestors 'none'",
].join("; ");

/** What the GraphQL endpoint is made from. */
export interface GraphqlDependencies {
  readonly pools: Pools;
  readonly authenticate: AuthenticateGraphql;
  /** Seals webhook secrets; undefined when there is no key to do so. */
  readonly secrets?: SecretBox | undefined;
  readonly logger: Logger;
  /** Opens the IDE to everybody and introspection to every key; otherwise both are for admin keys (spec K3). */
  readonly isDevelopment: boolean;
  /** Between two looks at watched balances; a second unless told. */
  readonly watchIntervalMs?: number;
}

/** The GraphQL endpoint. */
export interface GraphqlEndpoint {
  /** To be mounted at the server's root: answers /graphql and lets everything else pass. */
  readonly handler: RequestHandler;
  /**
   * Builds the schema, which takes about a second, so that the first request need not wait for it. Rejects when the
   * database is away; the next call, or the next request, tries again.
   */
  prepare: () => Promise<void>;
  /** Takes over a connection that asks for a WebSocket; false, and nothing done, for other addresses than GraphQL's. */
  upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => boolean;
  /** Ends subscriptions, which would go on for ever. */
  endSubscriptions: () => void;
  /** Lets go of what was built, after the last request. Leaves the pools to their owner. */
  release: () => Promise<void>;
}

/** A schema and what answers requests with it. */
interface Served {
  readonly handler: RequestHandler;
  readonly serv: GrafservBase;
  release: () => Promise<void>;
}

/**
 * Makes the GraphQL endpoint (spec W2, K3): PostGraphile's schema of the database's schema laurel, under the caller's
 * own role. Errors before a query is understood (key, body) have the one form that all of Laurel's HTTP errors have;
 * later ones are GraphQL's.
 */
export function createGraphql(dependencies: GraphqlDependencies): GraphqlEndpoint {
  const callers = new WeakMap<IncomingMessage, GraphqlCaller>();
  const balanceWatch = createBalanceWatch({
    pool: dependencies.pools.owner,
    logger: dependencies.logger,
    ...(dependencies.watchIntervalMs === undefined ? {} : { intervalMs: dependencies.watchIntervalMs }),
  });
  let building: Promise<Served> | undefined;
  const build = (): Promise<Served> => {
    building ??= serveSchema(dependencies, callers, balanceWatch).catch((error: unknown) => {
      building = undefined;
      throw error;
    });
    return building;
  };
  const handler = express();
  handler.disable("x-powered-by");
  handler.post(graphqlPath, authenticated(dependencies, callers), express.json({ limit: largestBodyBytes }));
  handler.get([graphqlPath, `${idePath}*file`], forIdeUsers(dependencies));
  handler.all([graphqlPath, `${idePath}*file`], async (request, response, next) => {
    if (!["GET", "HEAD", "POST"].includes(request.method)) throw new MethodRefusal();
    const served = await build();
    served.handler(request, response, next);
  });
  handler.use(answerRefusals(dependencies.logger));
  const sockets = createSockets({
    authenticate: dependencies.authenticate,
    callers,
    serv: async () => (await build()).serv,
  });
  return {
    handler,
    upgrade: (request, socket, head) => {
      if ((request.url ?? "").replace(/\?.*$/s, "") !== graphqlPath) return false;
      sockets.upgrade(request, socket, head);
      return true;
    },
    endSubscriptions: () => {
      balanceWatch.stop();
      sockets.close();
    },
    prepare: async () => {
      await build();
    },
    release: async () => {
      const served = await building?.catch(() => undefined);
      await served?.release();
    },
  };
}

async function serveSchema(
  { pools, logger, isDevelopment }: GraphqlDependencies,
  callers: WeakMap<IncomingMessage, GraphqlCaller>,
  balanceWatch: BalanceWatch,
): Promise<Served> {
  const sentences = await readConstraintSentences(pools.owner);
  const instance = postgraphile(
    createServerPreset(pools.server, {
      callerOf: (request) => callers.get(request),
      schema: () => instance.getSchema(),
      maskError: createErrorMask({ logger, sentences }),
      isDevelopment,
      balanceWatch,
    }),
  );
  await instance.getSchema();
  const app = express();
  app.disable("x-powered-by");
  const serv = instance.createServ(grafserv);
  await serv.ready();
  await serv.addTo(app, null, false);
  return {
    handler: app,
    serv,
    release: async () => {
      await instance.release();
    },
  };
}

/** Refuses methods that GraphQL has no use for. */
class MethodRefusal extends Error {
  override readonly name = "MethodRefusal";
  readonly status = 405;

  constructor() {
    super("Send GraphQL by POST.");
  }
}

function authenticated(
  { authenticate }: GraphqlDependencies,
  callers: WeakMap<IncomingMessage, GraphqlCaller>,
): RequestHandler {
  return async (request, _response, next) => {
    callers.set(request, await authenticate(request));
    next();
  };
}

/** The IDE is a page: in development it opens for everybody, and its user puts a key into its headers. */
function forIdeUsers({ authenticate, isDevelopment }: GraphqlDependencies): RequestHandler {
  return async (request, response, next) => {
    if (!isDevelopment) {
      const hasKey = request.headers["x-api-key"] !== undefined;
      if (!hasKey || (await authenticate(request)).role !== "laurel_admin") throw new MethodRefusal();
    }
    // The page starts itself by a script of its own, and its editor makes styles and workers.
    response.set("Content-Security-Policy", ideContentPolicy);
    next();
  };
}

/** Answers what went wrong before GraphQL was reached, in the form of all errors over HTTP. */
function answerRefusals(logger: Logger): ErrorRequestHandler {
  return (error: unknown, _request, response, next) => {
    if (response.headersSent) {
      next(error);
      return;
    }
    const { status, type, message } = error as { status?: unknown; type?: unknown; message?: unknown };
    if (typeof status === "number" && status < 500) {
      const text =
        status === 413
          ? `The body is too large: at most ${largestBodyBytes} bytes are allowed.`
          : type === "entity.parse.failed"
            ? "The body is not valid JSON."
            : String(message);
      if (status === 405) response.set("Allow", "POST");
      if (error instanceof Error && "headers" in error) response.set(error.headers as Record<string, string>);
      response.status(status).json({ error: text });
      return;
    }
    const answer = toHttpError(error);
    if (answer.status >= 500) logger.error({ err: error, requestId: response.getHeader("X-Request-Id") }, "a GraphQL request failed");
    if (answer.retryAfterSeconds !== undefined) response.set("Retry-After", String(answer.retryAfterSeconds));
    response.status(answer.status).json(answer.body);
  };
}
