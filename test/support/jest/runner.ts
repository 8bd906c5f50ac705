import { createRequire, enableCompileCache, flushCompileCache, registerHooks } from "node:module";
import { pathToFileURL } from "node:url";
import type { JestEnvironment } from "@jest/environment";
import { staysInOne } from "../clocks.ts";

/**
 * Runs a test file by jest's own rules, but in Node.js itself instead of jest's sandbox: types are stripped and modules
 * loaded as they are when Laurel runs, and what several files import (src, packages) is loaded once per jest worker.
 * In the sandbox every file loaded all of it anew, which took more than half of the suite's time.
 *
 * A test file's own modules, those under test/, are new for each file: they keep what they have to clean up.
 */

/** What jest's runner asks its sandbox for; the rest of it is left alone. */
interface Runtime {
  requireInternalModule: (path: string) => unknown;
  setGlobalsForRuntime: (globals: object) => void;
  unstable_shouldLoadAsEsm: (path: string) => boolean;
  unstable_importModule: (path: string) => Promise<unknown>;
}
type Runner = (globalConfig: unknown, config: unknown, environment: JestEnvironment, runtime: Runtime, path: string, send?: unknown) => Promise<unknown>;

declare global {
  /** What `@jest/globals` exports to the file that runs. */
  var laurelJestGlobals: Readonly<Record<string, unknown>> | undefined;
}

const require = createRequire(import.meta.url);
const circus = require("jest-circus/runner") as { default: Runner } | Runner;
const tests = new URL("../../", import.meta.url).href;
const globals = new URL("globals.ts", import.meta.url).href;
let runs = 0;

// Workers inherit it; where one process does it all, it began before that was said.
enableCompileCache(process.env["NODE_COMPILE_CACHE"]);

registerHooks({
  resolve: (specifier, context, nextResolve) => {
    const run = /\?run=\d+$/.exec(context.parentURL ?? "")?.[0] ?? "";
    if (specifier === "@jest/globals" && run !== "") return { url: globals + run, format: "module-typescript", shortCircuit: true };
    const resolved = nextResolve(specifier, context);
    return resolved.url.startsWith(tests) && !resolved.url.includes("?") ? { ...resolved, url: resolved.url + run } : resolved;
  },
});

const runTestFile: Runner = async (globalConfig, config, environment, runtime, path, send) => {
  runs += 1;
  const run = `?run=${runs}`;
  const native: Runtime = Object.assign(Object.create(runtime) as Runtime, {
    requireInternalModule: requireAnew,
    setGlobalsForRuntime: (given: object) => {
      const { moduleMocker } = environment;
      globalThis.laurelJestGlobals = { ...given, jest: { spyOn: moduleMocker?.spyOn.bind(moduleMocker) } };
    },
    unstable_shouldLoadAsEsm: () => true,
    unstable_importModule: (file: string) => import(pathToFileURL(file).href + run),
  });
  // Many count days from the real clock; few take so long.
  await staysInOne("day", 60);
  try {
    return await ("default" in circus ? circus.default : circus)(globalConfig, config, environment, native, path, send);
  } finally {
    // Left to the end, it would hold up the worker's exit, for which jest has half a second.
    flushCompileCache();
    forgetState();
  }
};
export default runTestFile;

/** Jest's runner keeps its state in module variables and on the global object: each file gets a new one. */
function requireAnew(path: string): unknown {
  forgetState();
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- a cache is there to be emptied
  delete require.cache[path];
  return require(path);
}

function forgetState(): void {
  for (const symbol of Object.getOwnPropertySymbols(globalThis)) {
    if (["EVENT_HANDLERS", "JEST_STATE_SYMBOL"].includes(symbol.description ?? "")) Reflect.deleteProperty(globalThis, symbol);
  }
}
