import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { build } from "vite";
import { distDirectory } from "./serve.ts";

/** Holds what the built dashboard was made from. */
const stampFile = join(distDirectory, ".stamp");
const sourceDirectory = import.meta.dirname;

/** Builds the dashboard into its folder, unless what is there was made from these very sources. */
export async function buildDashboard(): Promise<"built" | "up to date"> {
  const stamp = stampOfSources();
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return "up to date";
  await build({ configFile: join(sourceDirectory, "vite.config.ts"), logLevel: "warn" });
  writeFileSync(stampFile, stamp);
  return "built";
}

function stampOfSources(): string {
  const hash = createHash("sha256");
  const files = readdirSync(sourceDirectory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !path.startsWith(distDirectory))
    .sort();
  const lock = join(sourceDirectory, "../../package-lock.json");
  for (const path of existsSync(lock) ? [...files, lock] : files) hash.update(relative(sourceDirectory, path)).update("\0").update(readFileSync(path)).update("\0");
  return hash.digest("hex");
}
