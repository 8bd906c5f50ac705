import { createServer, type IncomingMessage, type RequestListener, type Server as HttpServer, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import type { Resolve } from "../../src/webhooks/addresses.ts";
import { untrustedCertificate } from "./untrusted_certificate.ts";

/** A receiver of webhooks, and what it saw. */
export interface Receiver {
  readonly url: string;
  /** How often each message came, by webhook-id. */
  readonly received: Map<string, number>;
  /** Messages that were answered 2xx in full. */
  readonly accepted: Set<string>;
  /** Connections that were made to it, or to where it wanted to lead. */
  readonly connections: () => number;
  /** Most bytes of one answer that left this side. */
  readonly mostSent: () => number;
  close: () => Promise<void>;
}

type Answer = (request: IncomingMessage, response: ServerResponse, message: { id: string; times: number }) => void;

const base = (): Pick<Receiver, "received" | "accepted"> => ({ received: new Map(), accepted: new Set() });

async function listen(server: Server | HttpServer, host = "127.0.0.1"): Promise<{ port: number; close: () => Promise<void>; connections: () => number }> {
  const sockets = new Set<Socket>();
  let connections = 0;
  server.on("connection", (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, host);
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    close: async () => {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** A receiver that answers over HTTP as told. */
export async function httpReceiver(answer: Answer, options: { tls?: boolean; onRequest?: (request: IncomingMessage) => void } = {}): Promise<Receiver> {
  const seen = base();
  let mostSent = 0;
  const handle: RequestListener = (request, response) => {
    const id = String(request.headers["webhook-id"]);
    const times = (seen.received.get(id) ?? 0) + 1;
    seen.received.set(id, times);
    response.on("error", () => undefined);
    response.on("finish", () => {
      if (response.statusCode >= 200 && response.statusCode < 300) seen.accepted.add(id);
    });
    response.on("close", () => {
      mostSent = Math.max(mostSent, request.socket.bytesWritten - request.socket.writableLength);
    });
    options.onRequest?.(request);
    request.resume();
    request.on("end", () => {
      answer(request, response, { id, times });
    });
  };
  const server = options.tls === true ? createHttpsServer(untrustedCertificate, handle) : createServer(handle);
  const { port, close, connections } = await listen(server);
  return { ...seen, url: `http${options.tls === true ? "s" : ""}://127.0.0.1:${port}/hook`, connections, mostSent: () => mostSent, close };
}

/** A receiver below HTTP. */
async function tcpReceiver(handle: (socket: Socket) => void, host?: string): Promise<Receiver> {
  const { port, close, connections } = await listen(createTcpServer(handle), host);
  return { ...base(), url: `http://${host ?? "127.0.0.1"}:${port}/hook`, connections, mostSent: () => 0, close };
}

const ok = (response: ServerResponse): void => {
  response.writeHead(200).end("ok");
};

/** A way to be faulty. */
export interface Fault {
  readonly name: string;
  start: () => Promise<Receiver & { readonly resolve?: Resolve }>;
  /** What becomes of the messages. */
  readonly outcome: "delivered" | "parked";
  /** Requests never reach it: no connection may be made at all. */
  readonly isForbidden?: boolean;
  /** It says that it is gone for good, and is made inactive. */
  readonly isGone?: boolean;
  /** It leaves one waiting: it is not waited for long here. */
  readonly isSilent?: boolean;
  readonly error?: RegExp;
}

/** Some addresses of loopback stand for private ones: only 127.0.0.1 is allowed. */
const privateHost = "127.0.0.2";

export const faults: readonly Fault[] = [
  {
    name: "fails twice, then works",
    outcome: "delivered",
    start: () => httpReceiver((_request, response, { times }) => {
      if (times <= 2) response.writeHead(500).end("not now");
      else ok(response);
    }),
  },
  { name: "always fails", outcome: "parked", error: /answered 503/, start: () => httpReceiver((_request, response) => response.writeHead(503).end()) },
  { name: "never answers", outcome: "parked", isSilent: true, error: /no answer within/, start: () => httpReceiver(() => undefined) },
  {
    name: "answers a byte at a time",
    outcome: "parked",
    isSilent: true,
    error: /no answer within/,
    start: () => httpReceiver((_request, response) => {
      response.writeHead(200);
      const drip = setInterval(() => response.write("."), 20);
      response.on("close", () => {
        clearInterval(drip);
      });
    }),
  },
  {
    name: "answers without end",
    outcome: "delivered",
    start: () => httpReceiver((_request, response) => {
      response.writeHead(200);
      const piece = Buffer.alloc(64 * 1024, "x");
      const pour = (): void => {
        while (!response.destroyed && response.write(piece));
      };
      response.on("drain", pour);
      pour();
    }),
  },
  { name: "resets connections", outcome: "parked", start: () => httpReceiver((request) => request.socket.resetAndDestroy()) },
  {
    name: "closes in the middle of its answer",
    outcome: "parked",
    start: () => httpReceiver((request, response) => {
      response.writeHead(200, { "content-length": "1000" });
      response.write("half of", () => request.socket.end());
    }),
  },
  {
    name: "redirects to a private address",
    outcome: "parked",
    error: /answered 302/,
    start: async () => {
      const hidden = await tcpReceiver(() => undefined, privateHost);
      const receiver = await httpReceiver((_request, response) => response.writeHead(302, { location: hidden.url }).end());
      return { ...receiver, connections: hidden.connections, close: async () => { await receiver.close(); await hidden.close(); } };
    },
    isForbidden: true,
  },
  { name: "shows a certificate of its own making", outcome: "parked", error: /self-signed|certificate/i, start: () => httpReceiver((_request, response) => { ok(response); }, { tls: true }) },
  {
    name: "has a name that leads to a private address",
    outcome: "parked",
    error: /private or reserved/,
    isForbidden: true,
    start: async () => {
      const hidden = await tcpReceiver(() => undefined, privateHost);
      const { port } = new URL(hidden.url);
      // One address that is allowed and one that is not: the allowed one is no pretext.
      const resolve: Resolve = () => Promise.resolve([{ address: "127.0.0.1", family: 4 }, { address: privateHost, family: 4 }]);
      return { ...hidden, url: `http://receiver.example:${port}/hook`, resolve };
    },
  },
  { name: "is gone", outcome: "parked", isGone: true, error: /410/, start: () => httpReceiver((_request, response) => response.writeHead(410).end()) },
  {
    name: "asks to be left alone for an hour, then works",
    outcome: "delivered",
    start: () => httpReceiver((_request, response, { times }) => {
      if (times === 1) response.writeHead(429, { "retry-after": "3600" }).end();
      else ok(response);
    }),
  },
  { name: "does not speak HTTP", outcome: "parked", start: () => tcpReceiver((socket) => socket.on("data", () => socket.end("220 welcome\r\n\r\n"))) },
  { name: "lets nobody in", outcome: "parked", isSilent: true, error: /no answer within/, start: () => tcpReceiver((socket) => socket.pause()) },
  {
    name: "is not there",
    outcome: "parked",
    error: /ECONNREFUSED/,
    start: async () => {
      const receiver = await tcpReceiver(() => undefined);
      await receiver.close();
      return { ...receiver, close: () => Promise.resolve() };
    },
  },
];
