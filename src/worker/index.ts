import { setTimeout as pause } from "node:timers/promises";
import { makeWorkerUtils, parseCronItems, run, type Runner, type TaskList } from "graphile-worker";
import type { Pool } from "pg";
import type { Logger } from "pino";
import { workerLogger } from "../postgres/migrate.ts";
import type { Task, TaskDependencies } from "./tasks.ts";

/** A running worker. */
export interface Worker {
  /** Takes no more jobs, lets those in progress finish, then ends. */
  stop: () => Promise<void>;
}

/** What a worker is made from. */
export interface WorkerOptions {
  /** Connections as the owner, at least two more than jobs at once. */
  readonly pool: Pool;
  readonly logger: Logger;
  /** Jobs at once. */
  readonly concurrency: number;
  readonly tasks: readonly Task[];
  readonly now: () => Date;
}

const restartPauseMs = 2_000;

/**
 * Starts the worker: takes jobs from the queue and runs scheduled ones. When the database goes away
 * for long, the queue's runner gives up; it is then started again until it stays.
 */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const stopping = new AbortController();
  let runner: Runner = await startRunner(options);
  const isStopping = (): boolean => stopping.signal.aborted;
  const kept = keepRunning();

  async function keepRunning(): Promise<void> {
    for (;;) {
      await runner.promise.catch((error: unknown) => {
        options.logger.error({ err: error }, "the worker gave up; it will be started again");
      });
      if (isStopping()) return;
      await pause(restartPauseMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      if (isStopping()) return;
      try {
        runner = await startRunner(options);
        if (isStopping()) await runner.stop();
      } catch (error) {
        options.logger.warn({ err: error }, "the worker cannot start yet");
      }
    }
  }

  return {
    stop: async () => {
      stopping.abort();
      await runner.stop().catch((error: unknown) => {
        options.logger.debug({ err: error }, "the worker had stopped already");
      });
      await kept;
    },
  };
}

async function startRunner({ pool, logger, concurrency, tasks, now }: WorkerOptions): Promise<Runner> {
  const dependencies: TaskDependencies = { pool, logger, now };
  const taskList: TaskList = Object.fromEntries(
    tasks.map((task) => [
      task.name,
      async (payload: unknown, helpers) => task.run(dependencies, payload, helpers.abortSignal),
    ]),
  );
  const runner = await run({
    pgPool: pool,
    // Otherwise a job's end that cannot be written, as when the database goes away, ends the whole process: nobody
    // waits for that promise. In a batch it ends the runner, which is started again.
    preset: { worker: { failJobBatchDelay: 0, completeJobBatchDelay: 0 } },
    concurrency,
    taskList,
    parsedCronItems: parseCronItems(
      tasks.flatMap(({ name, schedule }) => (schedule === undefined ? [] : [{ task: name, match: schedule }])),
    ),
    noHandleSignals: true,
    logger: workerLogger(logger),
  });
  const utils = await makeWorkerUtils({ pgPool: pool, logger: workerLogger(logger) });
  try {
    for (const { name, runsAtStart } of tasks) {
      if (runsAtStart === true) await utils.addJob(name, {}, { jobKey: `${name} at start` });
    }
  } finally {
    await utils.release();
  }
  return runner;
}
