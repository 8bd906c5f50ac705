import { createRequire } from "node:module";
import { dirname } from "node:path";
import express, { Router } from "express";
import { describeApi } from "./openapi.ts";

/** The page's own policy: the viewer styles itself inline, and talks to this server alone. */
const contentPolicy = [
  "default-src 'none'", "script-src 'self'", "style-src 'self' 'unsafe-inline'", "img-src 'self' data:", "font-src 'self' data:",
  "connect-src 'self'", "base-uri 'none'", "frame-ancestors 'none'",
].join("; ");

const apis = ["application", "admin"] as const;
const viewerDirectory = dirname(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"));

/**
 * The APIs described: OpenAPI documents at /openapi, and at /docs a page that lists the operations and tries them.
 * Open to everybody: they say what is in the source, nothing of anybody's data.
 */
export function createDocs(): Router {
  const router = Router({ caseSensitive: true });
  for (const api of apis) {
    // Made when it is first wanted: for both it takes a quarter of a second, which no start should wait for.
    let text: string | undefined;
    router.get(`/openapi/${api}.json`, (_request, response) => {
      text ??= JSON.stringify(describeApi(api));
      response.type("application/json").send(text);
    });
  }
  router.get("/docs", (_request, response) => {
    response.set("Content-Security-Policy", contentPolicy).type("html").send(page);
  });
  router.get("/docs/start.js", (_request, response) => {
    response.type("text/javascript").send(start);
  });
  router.use("/docs/viewer", express.static(viewerDirectory, { index: false, maxAge: "1d" }));
  return router;
}

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Laurel: REST</title>
<link rel="stylesheet" href="/docs/viewer/swagger-ui.css">
</head>
<body>
<main id="viewer"></main>
<script src="/docs/viewer/swagger-ui-bundle.js"></script>
<script src="/docs/viewer/swagger-ui-standalone-preset.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`;

const start = `SwaggerUIBundle({
  dom_id: "#viewer",
  urls: ${JSON.stringify(apis.map((api) => ({ name: `${api} API`, url: `/openapi/${api}.json` })))},
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  layout: "StandaloneLayout",
  validatorUrl: null,
});
`;
