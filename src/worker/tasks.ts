import type { Pool } from "pg";
import type { Logger } from "pino";

/** What a background job may use. */
export interface TaskDependencies {
  /** Connections as the database's owner. */
  readonly pool: Pool;
  readonly logger: Logger;
  /** The clock; tests pass their own. */
  readonly now: () => Date;
}

/**
 * One kind of background job. Jobs are hints: what is due stands in tables, so that a job that is lost, late or
 * run twice changes nothing.
 */
export interface Task {
  /** Its name in the queue, the same as its file's. */
  readonly name: string;
  /** When it runs by itself: a cron pattern of five fields, in UTC. */
  readonly schedule?: string;
  /** Also run once whenever a worker starts. */
  readonly runsAtStart?: boolean;
  /** The payload is whatever was queued: parse it. Aborted when the worker has to stop before it is done. */
  readonly run: (
    dependencies: TaskDependencies,
    payload: unknown,
    abortSignal: AbortSignal | undefined,
  ) => Promise<void>;
}
