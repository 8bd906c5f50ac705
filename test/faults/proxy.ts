import { connect, createServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

/** Stands between clients and the server, and now and then keeps a reply to itself. */
export interface Proxy {
  readonly port: number;
  /** Replies that were cut off so far. */
  readonly cuts: () => number;
  readonly close: () => Promise<void>;
}

/**
 * Starts a proxy on loopback. Of `share` of the connections it closes both ends at the moment the reply arrives: the server has
 * committed, the client never hears of it.
 */
export async function startProxy(targetPort: number, share: number, random: () => number): Promise<Proxy> {
  let cuts = 0;
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const target = connect(targetPort, "127.0.0.1");
    for (const socket of [client, target]) {
      open.add(socket);
      socket.on("close", () => {
        open.delete(socket);
        client.destroy();
        target.destroy();
      });
      socket.on("error", () => {
        client.destroy();
        target.destroy();
      });
    }
    client.pipe(target);
    target.once("data", (reply) => {
      if (random() < share) {
        cuts += 1;
        client.destroy();
        target.destroy();
        return;
      }
      client.write(reply);
      target.pipe(client);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    cuts: () => cuts,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
        for (const socket of open) socket.destroy();
      }),
  };
}
