import { destination, type Logger, pino } from "pino";

/**
 * Makes the process's logger: one JSON object a line on standard error, so that standard output is left to what
 * people read. Keys never reach a log.
 */
export function createLogger(level: string): Logger {
  return pino(
    {
      level,
      base: { pid: process.pid },
      serializers: { err: describeError },
      redact: {
        paths: ["*.headers['x-api-key']", "headers['x-api-key']", "*.headers.authorization", "headers.authorization"],
        censor: "[redacted]",
      },
    },
    destination({ fd: 2, sync: false }),
  );
}

/** What a log says of an error; a database error's other fields hold rows and connections. */
function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  const { code } = error as { code?: unknown };
  return { type: error.name, code, message: error.message, stack: error.stack };
}
