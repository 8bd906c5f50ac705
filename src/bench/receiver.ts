import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/** A process of its own that takes every request and answers 204. Prints its port when it listens; ends when its standard input does. */
const server = createServer({ keepAliveTimeout: 60_000 }, (incoming, answer) => {
  incoming.resume();
  incoming.on("end", () => {
    answer.writeHead(204).end();
  });
});
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
});
process.stdin.resume();
process.stdin.on("end", () => {
  server.closeAllConnections();
  server.close();
});
