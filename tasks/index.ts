import type { Task } from "../src/worker/tasks.ts";
import { maintainPartitions } from "./maintain_partitions.ts";

/** Every background job. A new one is a file beside this and a line here. */
export const tasks: readonly Task[] = [maintainPartitions];
