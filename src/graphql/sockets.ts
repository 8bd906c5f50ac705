import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type GrafservBase, makeGraphQLWSConfig } from "grafserv";
import { GraphQLError } from "graphql";
import { CloseCode, makeServer, type ServerOptions } from "graphql-ws";
import { type WebSocket, WebSocketServer } from "ws";
import type { AuthenticateGraphql, GraphqlCaller } from "./callers.ts";
import { largestBodyBytes } from "./preset.ts";

/** WebSockets for subscriptions, by the protocol graphql-transport-ws. */
export interface Sockets {
  /** Takes over a connection that asks for a WebSocket at GraphQL's address. */
  upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** Closes all of them. */
  close: () => void;
}

/** What sockets are made from. */
export interface SocketsOptions {
  readonly authenticate: AuthenticateGraphql;
  readonly callers: WeakMap<IncomingMessage, GraphqlCaller>;
  /** GraphQL itself; undefined while the database is away. */
  readonly serv: () => Promise<GrafservBase>;
}

/** How long a client may take to say who it is. */
const initWaitMs = 5_000;

interface Extra {
  readonly request: IncomingMessage;
  readonly socket: WebSocket;
}

/** Makes them. Keys come in the header or, since browsers cannot send one, in connection_init's payload: {"X-API-KEY": …}. */
export function createSockets({ authenticate, callers, serv }: SocketsOptions): Sockets {
  const server = new WebSocketServer({ noServer: true, maxPayload: largestBodyBytes });
  const handle = async (socket: WebSocket, request: IncomingMessage): Promise<void> => {
    socket.on("error", () => {
      socket.terminate();
    });
    const messages: string[] = [];
    let take = (text: string): void => {
      messages.push(text);
    };
    socket.on("message", (data) => {
      take((data as Buffer).toString("utf8"));
    });
    const config = makeGraphQLWSConfig(await serv()) as ServerOptions<Record<string, unknown>, Extra>;
    const graphql = makeServer<Record<string, unknown>, Extra>({
      ...config,
      connectionInitWaitTimeout: initWaitMs,
      onConnect: async ({ connectionParams }) => {
        try {
          callers.set(request, await authenticate(withParameters(request, connectionParams)));
          return true;
        } catch (error) {
          const { status, message } = refusalOf(error);
          socket.close(status === 503 ? CloseCode.InternalServerError : CloseCode.Forbidden, message.slice(0, 120));
          return false;
        }
      },
      // Again for every operation: sockets stay open for days, keys and their rates are counted in seconds.
      onSubscribe: async (context, id, payload) => {
        try {
          callers.set(request, await authenticate(withParameters(request, context.connectionParams)));
        } catch (error) {
          const { status, message } = refusalOf(error);
          return [new GraphQLError(message, { extensions: { code: codes[status] } })];
        }
        return config.onSubscribe?.(context, id, payload);
      },
    });
    const closed = graphql.opened(
      {
        protocol: socket.protocol,
        send: (data) =>
          new Promise((resolve, reject) => {
            socket.send(data, (error) => {
              if (error instanceof Error) reject(error);
              else resolve();
            });
          }),
        close: (code, reason) => {
          socket.close(code, reason);
        },
        onMessage: (deliver) => {
          take = (text) => {
            deliver(text).catch((error: unknown) => {
              socket.close(CloseCode.InternalServerError, error instanceof Error ? "The message could not be handled." : "");
            });
          };
          for (const text of messages.splice(0)) take(text);
        },
      },
      { request, socket },
    );
    socket.once("close", (code, reason) => {
      void closed(code, reason.toString());
    });
  };
  return {
    upgrade: (request, socket, head) => {
      server.handleUpgrade(request, socket, head, (webSocket) => {
        handle(webSocket, request).catch(() => {
          webSocket.close(CloseCode.InternalServerError, "Try again shortly.");
        });
      });
    },
    close: () => {
      for (const client of server.clients) client.terminate();
      server.close();
    },
  };
}

const codes = { 400: "BAD_REQUEST", 401: "LR040", 403: "LR041", 429: "TOO_MANY_REQUESTS", 503: "UNAVAILABLE" } as const;

/** Why a key was not taken, in words; what is no refusal is a database that is away. */
function refusalOf(error: unknown): { readonly status: keyof typeof codes; readonly message: string } {
  const { status, message } = error as { status?: unknown; message?: unknown };
  const known = [400, 401, 403, 429].find((one) => one === status) as keyof typeof codes | undefined;
  return known === undefined ? { status: 503, message: "Try again shortly." } : { status: known, message: String(message) };
}

/** The request as if its connection parameters had been headers, for the one authentication there is. */
function withParameters(request: IncomingMessage, parameters: Readonly<Record<string, unknown>> | undefined): IncomingMessage {
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(parameters ?? {})) {
    const header = name.toLowerCase();
    if (["x-api-key", "tenant-id"].includes(header) && typeof value === "string") given[header] = value;
  }
  return Object.create(request, {
    headers: { value: { ...request.headers, ...given } },
    headersDistinct: { value: {} },
    socket: { value: request.socket },
  }) as IncomingMessage;
}
