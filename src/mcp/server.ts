import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { CallToolRequestSchema, type CallToolResult, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { type ApiDocument, toolsOf } from "./tools.ts";

/** Where the MCP server finds Laurel, and as whom it acts. */
export interface McpOptions {
  /** The address of a Laurel server, without a slash at the end. */
  readonly url: string;
  /** An admin key. */
  readonly apiKey: string;
  /** The tenant's customer ID; undefined for the default one. */
  readonly tenant: string | undefined;
  readonly fetch: typeof fetch;
}

const timeoutMs = 60_000;

/* eslint-disable @typescript-eslint/no-deprecated -- The other class takes zod shapes alone; these tools come with JSON Schemas. */
/**
 * Makes an MCP server with a tool for each operation about points of the admin API, as the Laurel server describes
 * it. Every rule is that server's: a refusal comes back as its sentence. Throws when the server cannot be reached.
 */
export async function createMcpServer({ url, apiKey, tenant, fetch: send }: McpOptions): Promise<Server> {
  const described = await send(`${url}/openapi/admin.json`, { signal: AbortSignal.timeout(timeoutMs) });
  if (!described.ok) throw new Error(`${url}/openapi/admin.json answered ${described.status}`);
  const tools = new Map(toolsOf((await described.json()) as ApiDocument).map((tool) => [tool.name, tool]));
  const server = new Server({ name: "laurel", version: "1" }, { capabilities: { tools: {} } });
  server.setRequestHandler(ListToolsRequestSchema, () => ({
    tools: [...tools.values()].map(({ name, description, inputSchema, isReadOnly }) => ({
      name, description, inputSchema,
      annotations: { readOnlyHint: isReadOnly, destructiveHint: name.startsWith("delete_"), openWorldHint: false },
    })),
  }));
  server.setRequestHandler(CallToolRequestSchema, async ({ params }): Promise<CallToolResult> => {
    const tool = tools.get(params.name);
    if (tool === undefined) return refusal(`There is no tool ${params.name}.`);
    const given = params.arguments ?? {};
    // Without it the address would be another operation's.
    const missing = tool.inPath.find((name) => (given[name] ?? "") === "");
    if (missing !== undefined) return refusal(`${missing} is required.`);
    const { method, path, body } = tool.toRequest(given);
    try {
      const answer = await send(`${url}/admin/v1${path}`, {
        method,
        headers: {
          "X-API-KEY": apiKey,
          ...(tenant === undefined ? {} : { "Tenant-ID": tenant }),
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        },
        ...(body === undefined ? {} : { body }),
        signal: AbortSignal.timeout(timeoutMs),
      });
      const text = await answer.text();
      return answer.ok ? { content: [{ type: "text", text }] } : refusal(sentenceOf(text, answer.status));
    } catch {
      return refusal(`The Laurel server at ${url} cannot be reached.`);
    }
  });
  return server;
}

const refusal = (text: string): CallToolResult => ({ isError: true, content: [{ type: "text", text }] });

function sentenceOf(text: string, status: number): string {
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    if (typeof error === "string") return error;
  } catch {
    // Something in between answered.
  }
  return `The Laurel server answered ${status}.`;
}
