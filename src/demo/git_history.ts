import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { text } from "node:stream/consumers";

/** A history that cannot be read. Its message is one line that says what to do. */
export class HistoryError extends Error {
  override readonly name = "HistoryError";
}

/** A commit, as far as points are concerned. */
export interface Commit {
  readonly hash: string;
  /** The author's address in lower case, or the name where there is none; at most 255 characters, as user IDs are. */
  readonly author: string;
  readonly authorName: string;
  /** ISO 8601, with the author's offset. */
  readonly authoredAt: string;
  /** From a subject such as "fix: …" or "Fix …"; "other" when it says nothing of the kind. */
  readonly kind: string;
  /** The top folder of the first file; "root" for files at the top. */
  readonly area: string;
  readonly filesChanged: number;
  /** Added and removed; binary files have none. */
  readonly linesChanged: number;
}

// Control characters that Git keeps out of names and subjects.
const recordMark = "\x1e";
const fieldMark = "\x1f";
/** What people call the kinds of commits, and the words they begin a subject with. */
const kinds: ReadonlyMap<string, RegExp> = new Map([
  ["fix", /^(bug)?fix(es|ed)?\b|^hotfix\b/i],
  ["test", /^tests?\b/i],
  ["docs", /^(docs?|documentation|readme)\b/i],
  ["feature", /^(feat(ure)?s?|add(s|ed)?|introduce|implement)\b/i],
  ["revert", /^revert/i],
  ["chore", /^(chore|build|ci|bump|deps?|release)\b/i],
]);

/**
 * Reads the newest commits of a repository, oldest first, merges left out. Throws `HistoryError` when there is no such folder, repository,
 * commit, or no Git.
 */
export async function readGitHistory(path: string, most: number): Promise<Commit[]> {
  if (!existsSync(path)) throw new HistoryError(`there is no folder ${path}`);
  const output = await runGit(path, [
    "-c", "core.quotePath=false",
    "log", "--no-merges", "--no-renames", "--numstat", `--max-count=${most}`,
    "--format=%x1e%H%x1f%aE%x1f%aN%x1f%aI%x1f%s",
  ]);
  return output.split(recordMark).slice(1).map(commitFrom).reverse();
}

async function runGit(path: string, parameters: readonly string[]): Promise<string> {
  const git = spawn("git", ["-C", path, ...parameters], { stdio: ["ignore", "pipe", "pipe"] });
  const started = new Promise<void>((resolve, reject) => {
    git.once("spawn", resolve);
    git.once("error", () => {
      reject(new HistoryError("Git is not installed: the demo reads the history with it"));
    });
  });
  const ended = new Promise<number | null>((resolve) => git.once("close", resolve));
  await started;
  const [output, complaint, status] = await Promise.all([text(git.stdout), text(git.stderr), ended]);
  if (status === 0 && output !== "") return output;
  if (/not a git repository/i.test(complaint)) throw new HistoryError(`${path} is no Git repository: give the path of one`);
  if (status === 0 || /does not have any commits yet/i.test(complaint)) throw new HistoryError(`${path} has no commits yet`);
  throw new HistoryError(`Git cannot read ${path}: ${complaint.trim().split("\n")[0] ?? ""}`);
}

function commitFrom(record: string): Commit {
  const [head = "", ...lines] = record.split("\n");
  const [hash = "", address = "", authorName = "", authoredAt = "", subject = ""] = head.split(fieldMark);
  // "12 <tab> 3 <tab> path"; binary files have dashes for numbers.
  const files = lines.filter((line) => line.includes("\t")).map((line) => line.split("\t"));
  const path = files[0]?.[2] ?? "";
  return {
    hash,
    author: (address.toLowerCase() || authorName || "unknown").slice(0, 255),
    authorName,
    authoredAt,
    kind: [...kinds].find(([, words]) => words.test(subject))?.[0] ?? "other",
    area: path.includes("/") ? path.slice(0, path.indexOf("/")) : "root",
    filesChanged: files.length,
    linesChanged: files.reduce((sum, [added, removed]) => sum + (Number(added) || 0) + (Number(removed) || 0), 0),
  };
}
