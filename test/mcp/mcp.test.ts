import { spawnSync } from "node:child_process";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { projectDirectory } from "../../src/config.ts";
import { type RestApi, startRestApi } from "../support/rest.ts";

/** The MCP server as a process of its own, spoken to by the SDK's client, over a real Laurel server. */

let rest: RestApi;
let server: Server;
let client: Client;
let url: string;

const script = ["--disable-warning=ExperimentalWarning", join(projectDirectory, "src", "cli", "mcp.ts")];

beforeAll(async () => {
  rest = await startRestApi();
  server = createServer(rest.app);
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  client = new Client({ name: "test", version: "1" });
  await client.connect(new StdioClientTransport({
    command: process.execPath, args: script,
    env: { LAUREL_URL: url, LAUREL_API_KEY: rest.adminKey.secret, PATH: process.env["PATH"] ?? "" },
  }));
  await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }]).expect(201);
});

afterAll(async () => {
  await client.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

interface Called {
  readonly isError?: boolean;
  readonly content: readonly { readonly text: string }[];
}

const call = async (name: string, given: Record<string, unknown> = {}): Promise<unknown> => {
  const called = (await client.callTool({ name, arguments: given })) as Called;
  const text = called.content[0]?.text ?? "";
  return called.isError === true ? { refused: text } : JSON.parse(text);
};

describe("tools", () => {
  test("are there for reading, changing, trying and measuring points", async () => {
    const { tools } = await client.listTools();
    const names = tools.map(({ name }) => name);
    for (const kind of ["system", "trigger", "level", "boost"]) {
      expect(names).toEqual(expect.arrayContaining([
        `list_points_${kind}s`, `get_points_${kind}`, `create_points_${kind}s`, `update_points_${kind}s`, `delete_points_${kind}s`,
      ]));
    }
    expect(names).toEqual(expect.arrayContaining(["preview_points", "backtest_points", "estimate_points", "get_points_earned", "get_points_insights"]));
    const text = JSON.stringify(tools);
    expect(text).not.toContain("#/components/");
    expect(tools.find(({ name }) => name === "create_points_triggers")?.inputSchema).toMatchObject({ type: "object", required: ["systemId", "items"] });
    expect(tools.find(({ name }) => name === "preview_points")).toMatchObject({ annotations: { readOnlyHint: true }, inputSchema: { required: ["systemId", "days", "kinds"] } });
    expect(tools.find(({ name }) => name === "delete_points_levels")).toMatchObject({ annotations: { readOnlyHint: false, destructiveHint: true } });
  });

  test("set up a system, try it, change it and tell what it did", async () => {
    const [metric] = (await call("list_metrics")) as { id: string }[];
    const made = (await call("create_points_systems", { items: [{ name: "XP", key: "xp", levels: [{ name: "A", key: "a", points: 20 }] }] })) as { created: { id: string }[] };
    const systemId = made.created[0]?.id;
    const triggers = (await call("create_points_triggers", {
      systemId, items: [{ type: "metric", points: 10, status: "active", metricId: metric?.id, metricThreshold: 1 }],
    })) as { created: { id: string }[] };
    expect(await call("preview_points", { systemId, days: 2, kinds: [{ name: "A", users: 1, events: [{ metric: "words", perDay: 1 }] }] }))
      .toMatchObject({ kinds: [{ totals: [{ p50: 10 }, { p50: 20 }], levels: [{ key: "a", medianDay: 2 }] }] });
    expect(await call("estimate_points", { systemId, amounts: { words: 3 } })).toMatchObject({ total: 30 });
    expect(await call("update_points_triggers", { systemId, items: [{ id: triggers.created[0]?.id, points: 7 }] })).toMatchObject({ updated: [{ points: 7 }] });
    await rest.as().post("/v1/metrics/words/event", { user: { id: "ann" }, value: 2 }).expect(201);
    expect(await call("get_points_earned", { systemId, unit: "month" })).toMatchObject({ unit: "month", earned: 14 });
    expect(await call("get_points_insights", { systemId })).toMatchObject({ sentences: expect.arrayContaining(["Users earned 14 points."]) });
    expect(await call("list_points_levels", { systemId })).toMatchObject([{ key: "a" }]);
    const [level] = (await call("list_points_levels", { systemId })) as { id: string }[];
    expect(await call("delete_points_levels", { systemId, ids: [level?.id] })).toEqual({ deleted: [{ id: level?.id }], issues: [] });
    expect(await call("get_points_system", { id: systemId })).toMatchObject({ key: "xp" });
  });

  test("give the server's sentence when they are refused", async () => {
    expect(await call("get_points_earned", { systemId: "xp" })).toEqual({ refused: "The systemId in the address must be a UUID." });
    expect(await call("get_points_system", { id: "00000000-0000-7000-8000-000000000000" }))
      .toEqual({ refused: "No points system has the ID 00000000-0000-7000-8000-000000000000." });
    expect(await call("get_points_system")).toEqual({ refused: "id is required." });
    expect(await call("list_points_levels", { systemId: "" })).toEqual({ refused: "systemId is required." });
    expect(await call("create_points_systems")).toMatchObject({ refused: expect.stringContaining("array") });
    expect(await call("drop_everything")).toEqual({ refused: "There is no tool drop_everything." });
  });
});

describe("without what it needs the server says so in one line and ends", () => {
  test.each([
    [{}, /^laurel: LAUREL_API_KEY: .+\n$/],
    [{ LAUREL_API_KEY: "a.b", LAUREL_URL: "nowhere" }, /^laurel: LAUREL_URL: .+\n$/],
    [{ LAUREL_API_KEY: "a.b", LAUREL_URL: "http://127.0.0.1:1" }, /^laurel: the Laurel server at http:\/\/127\.0\.0\.1:1 cannot be used: .+\n$/],
  ])("%j", (env, line) => {
    const ended = spawnSync(process.execPath, script, { env: { PATH: process.env["PATH"] ?? "", ...env }, encoding: "utf8", input: "" });
    expect(ended.status).toBe(1);
    expect(ended.stderr).toMatch(line);
  });
});
