import type { Operation } from "./operations.ts";

export const adminOperations: readonly Operation[] = [];
