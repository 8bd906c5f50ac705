import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { ConfigError, readMcpConfig } from "../config.ts";
import { createMcpServer } from "../mcp/server.ts";

/** `npm run mcp`: an MCP server on standard input and output, over the admin API of a Laurel server. */
try {
  const { url, apiKey, tenant } = readMcpConfig();
  const server = await createMcpServer({ url, apiKey, tenant, fetch }).catch((error: unknown) => {
    throw new ConfigError(`the Laurel server at ${url} cannot be used: ${error instanceof Error ? error.message : String(error)}`);
  });
  await server.connect(new StdioServerTransport());
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  process.stderr.write(`laurel: ${error.message}\n`);
  process.exitCode = 1;
}
