import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import express from "express";
import request from "supertest";
import { createDashboard } from "../../src/dashboard/serve.ts";
import { builtDashboard } from "../support/dashboard.ts";
import { cloneDatabase } from "../support/database.ts";
import { createTestApp } from "../support/http.ts";
import { temporaryDirectory } from "../support/server.ts";

const browser = "text/html,application/xhtml+xml,*/*;q=0.8";
const directory = temporaryDirectory();
let app: ReturnType<typeof createTestApp>;

beforeAll(async () => {
  await builtDashboard();
  app = createTestApp((await cloneDatabase()).pools);
  mkdirSync(join(directory, "empty"), { recursive: true });
});

afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

const scriptOf = (page: string): string => /src="(\/assets\/[^"]+\.js)"/.exec(page)?.[1] ?? "";

describe("the dashboard", () => {
  test("is at / and at the addresses of its screens, under a policy without inline scripts", async () => {
    for (const path of ["/", "/systems/xp/triggers", "/users/a%2Fb"]) {
      const response = await request(app).get(path).set("Accept", browser).expect(200).expect("Content-Type", /html/);
      expect(response.text).toContain('<div id="app">');
      expect(response.headers["content-security-policy"]).toMatch(/script-src 'self';.*style-src 'self';/);
      expect(response.text).not.toMatch(/<script(?![^>]* src=)|<style|style="|https?:\/\//);
    }
  });

  test("takes no address from the other ways in, nor from programs", async () => {
    for (const path of ["/v1/nothing", "/api/nothing", "/admin/v1/nothing", "/docs/nothing", "/openapi/nothing", "/healthz/nothing", "/assets/nothing.js"]) {
      const response = await request(app).get(path).set("Accept", browser);
      expect([path, response.status]).toEqual([path, 404]);
    }
    await request(app).get("/nothing").set("Accept", "application/json").expect(404, { error: "There is nothing at this address." });
    await request(app).post("/nothing").set("Accept", browser).expect(404);
    await request(app).get("/healthz").set("Accept", browser).expect(200, { status: "ok" });
  });

  test("is loaded once and kept: names change with the content", async () => {
    const page = await request(app).get("/").expect("Cache-Control", "no-cache");
    await request(app).get(scriptOf(page.text)).expect(200).expect("Cache-Control", /immutable/).expect("Content-Type", /javascript/);
  });

  test("stays whole when it is built anew beside the server", async () => {
    const built = join(directory, "built");
    mkdirSync(join(built, "assets"), { recursive: true });
    writeFileSync(join(built, "index.html"), "page");
    writeFileSync(join(built, "assets", "one.js"), "plain");
    writeFileSync(join(built, "assets", "one.js.br"), "packed");
    const served = express().use(createDashboard(built));
    rmSync(built, { recursive: true });
    await request(served).get("/assets/one.js").set("Accept-Encoding", "identity").expect(200, "plain");
    await request(served).get("/assets/one.js").set("Accept-Encoding", "gzip").expect(200, "plain").expect("Vary", "Accept-Encoding");
    const packed = await request(served).head("/assets/one.js").set("Accept-Encoding", "br, gzip").expect(200).expect("Content-Encoding", "br");
    expect(packed.headers["content-length"]).toBe("6");
    for (const path of ["/assets/two.js", "/assets/", "/assets/../index.html.br", "/assets/%2e%2e/index.html"]) await request(served).get(path).expect(404);
  });

  test("is less than 250 kB compressed, all of it", async () => {
    const page = await request(app).get("/");
    const files = [...page.text.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map((match) => match[1] ?? "");
    expect(files.length).toBeGreaterThan(1);
    let bytes = 0;
    for (const file of files) {
      const response = await request(app).get(file).set("Accept-Encoding", "br").expect("Content-Encoding", "br");
      bytes += Number(response.headers["content-length"]);
    }
    expect(bytes).toBeLessThan(250_000);
  });

  test("says what to do when it has not been built", async () => {
    const bare = express().use(createDashboard(join(directory, "empty")));
    await request(bare).get("/").expect(503).expect("Content-Type", /plain/).expect(/npm run dashboard:build/);
    writeFileSync(join(directory, "empty", "index.html"), "built");
    mkdirSync(join(directory, "empty", "assets"));
    await request(express().use(createDashboard(join(directory, "empty")))).get("/").expect(200, "built");
  });
});
