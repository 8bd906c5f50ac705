import { existsSync, readdirSync, readFileSync } from "node:fs";
import { extname, join, relative, sep } from "node:path";
import { type RequestHandler, Router } from "express";

/** Where the build leaves the dashboard; not in git. */
export const distDirectory: string = join(import.meta.dirname, "dist");

/** Stricter than the rest of the server's: no inline scripts or styles, and calls to this server alone. Badges may be anywhere. */
const contentPolicy = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data: https:", "font-src 'self'",
  "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
].join("; ");

/** First parts of addresses that belong to the other ways in: a mistyped one is told so, and not shown a page. */
const otherWaysIn = new Set(["v1", "api", "admin", "graphql", "ruru-static", "docs", "openapi", "healthz", "readyz", "metrics"]);

const notBuilt = "The dashboard has not been built. Run npm run dashboard:build, then start Laurel again.\n";

/**
 * Serves the dashboard: its files, and its page at every address that a browser opens and nothing else answers, since
 * the page itself finds its screens. Files under /assets carry their content's hash in their name and may be kept. All
 * of it is read once: building anew beside a running server takes nothing away from it.
 */
export function createDashboard(directory: string = distDirectory): Router {
  const router = Router({ caseSensitive: true });
  if (!existsSync(join(directory, "index.html"))) {
    router.get("/", (_request, response) => {
      response.status(503).type("text/plain").send(notBuilt);
    });
    return router;
  }
  router.get(/^\/assets\//, sendAsset(readFiles(directory)));
  router.get(/.*/, sendPage(readFileSync(join(directory, "index.html"))));
  return router;
}

/** The files under /assets by their addresses. */
function readFiles(directory: string): ReadonlyMap<string, Buffer> {
  return new Map(
    readdirSync(join(directory, "assets"), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => [`/${relative(directory, path).replaceAll(sep, "/")}`, readFileSync(path)]),
  );
}

/** Endings of the compressed copies that the build leaves beside its files, best first. */
const encodings: ReadonlyMap<string, string> = new Map([["br", ".br"], ["gzip", ".gz"]]);

function sendAsset(files: ReadonlyMap<string, Buffer>): RequestHandler {
  return (request, response, next) => {
    const plain = files.get(request.path);
    if (plain === undefined) {
      next();
      return;
    }
    response.set("Cache-Control", "public, max-age=31536000, immutable").vary("Accept-Encoding").type(extname(request.path));
    const accepted = request.acceptsEncodings(...encodings.keys());
    const ending = accepted === false ? undefined : encodings.get(accepted);
    const packed = ending === undefined ? undefined : files.get(request.path + ending);
    if (packed !== undefined && accepted !== false) response.set("Content-Encoding", accepted);
    response.send(packed ?? plain);
  };
}

function sendPage(page: Buffer): RequestHandler {
  return (request, response, next) => {
    const [, first = ""] = request.path.split("/");
    const isPage = first === "" || (!otherWaysIn.has(first) && isAskedByBrowser(request.headers.accept));
    if (!isPage || first === "assets") {
      next();
      return;
    }
    response.set("Content-Security-Policy", contentPolicy).set("Cache-Control", "no-cache").type("html").send(page);
  };
}

/** Browsers name HTML first when somebody opens an address; programs rarely name it at all. */
const isAskedByBrowser = (accept: string | undefined): boolean => accept?.includes("text/html") === true;
