// Stands for `@jest/globals`, which only jest's sandbox knows.
export const { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest, test } = globalThis.laurelJestGlobals ?? {};
