import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { DatabaseError } from "pg";
import type { Pools } from "../postgres/pools.ts";
import { inTransaction } from "../postgres/transactions.ts";
import { readCsv } from "./csv_records.ts";
import { createEventLoader } from "./event_loader.ts";
import { type EventColumns, type EventRow, ImportError, readHeader, readRow } from "./event_rows.ts";

/** What an import needs and whom it tells. */
export interface FileImport {
  readonly path: string;
  readonly pools: Pick<Pools, "service" | "admin">;
  /** The tenant's customer ID; empty for the default one. */
  readonly tenant: string;
  /** Lines a statement. */
  readonly batchSize: number;
  /** Declare metrics and event attributes that the file names and the database lacks. */
  readonly mayCreate: boolean;
  /** Told of every line that is not loaded, and why. */
  readonly onBadLine: (line: number, reason: string) => void;
  /** Told after each batch how much of the file is done. */
  readonly onProgress: (progress: { readonly lines: number; readonly bytes: number }) => void;
  /** When aborted, the import ends after the batch at hand. */
  readonly signal?: AbortSignal;
}

/** What an import did. Every line with something on it is stored, replayed or bad. */
export interface ImportSummary {
  readonly stored: number;
  /** Loaded before: their idempotency keys were used. */
  readonly replayed: number;
  readonly bad: number;
  /** Of the lines that are not bad. */
  readonly users: number;
  /** The last line that was read when the import was stopped; undefined when it reached the end. */
  readonly stoppedAfterLine: number | undefined;
}

/**
 * Loads a CSV file of events. Bad lines are told and left out; all others are loaded, in order. Throws `ImportError` when the file as a whole
 * cannot be imported, and the database's error when it stays away: running again then loads what is missing.
 */
export async function importFile(options: FileImport): Promise<ImportSummary> {
  const { path, pools, tenant, batchSize, mayCreate, onBadLine, onProgress, signal } = options;
  const fileHash = await hashFile(path);
  await refuseUnknownTenant(pools, tenant);

  let bad = 0;
  let stored = 0;
  let replayed = 0;
  const users = new Set<string>();
  const refuse = (line: number, reason: string): void => {
    bad += 1;
    onBadLine(line, reason);
  };
  const refusedLines = new Set<number>();
  const loader = createEventLoader({
    pool: pools.admin,
    tenant,
    onRefused: (row, reason) => {
      refusedLines.add(row.line);
      refuse(row.line, reason);
    },
  });
  const createMetrics = metricCreator(pools, tenant);
  const loadBatch = async (rows: readonly EventRow[]): Promise<void> => {
    if (mayCreate) await createMetrics(rows);
    const counts = await loader.load(rows);
    stored += counts.stored;
    replayed += counts.replayed;
    for (const { line, userId } of rows) {
      if (!refusedLines.has(line)) users.add(userId);
    }
    refusedLines.clear();
  };

  let columns: EventColumns | undefined;
  let rows: EventRow[] = [];
  for await (const item of readCsv(path)) {
    if (columns === undefined) {
      if (item.kind === "fault") throw new ImportError(`line ${item.line}: ${item.reason}`);
      columns = readHeader(item.fields);
      await provideAttributes(pools, tenant, [...columns.attributes.keys()], mayCreate);
      continue;
    }
    const row = item.kind === "fault" ? item.reason : readRow(columns, item, fileHash);
    if (typeof row === "string") refuse(item.line, row);
    else rows.push(row);
    if (rows.length < batchSize) continue;
    await loadBatch(rows);
    rows = [];
    onProgress({ lines: item.line, bytes: item.endOffset });
    if (signal?.aborted === true) return { stored, replayed, bad, users: users.size, stoppedAfterLine: item.line };
  }
  if (columns === undefined) {
    throw new ImportError("the file is empty: its first line must be a header such as metric_key,user_id,value");
  }
  await loadBatch(rows);
  return { stored, replayed, bad, users: users.size, stoppedAfterLine: undefined };
}

/** The size of a file that can be read, in bytes. Throws `ImportError` for anything else. */
export async function sizeOfFile(path: string): Promise<number> {
  try {
    const file = await open(path);
    try {
      const found = await file.stat();
      if (found.isDirectory()) throw new ImportError(`cannot read ${path}: it is a folder`);
      return found.size;
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof ImportError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    throw new ImportError(`cannot read ${path}: ${code === "ENOENT" ? "there is no such file" : message}`);
  }
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex").slice(0, 32);
}

async function refuseUnknownTenant({ service }: Pick<Pools, "service">, tenant: string): Promise<void> {
  try {
    await inTransaction(service, (client) => client.query("select laurel.current_tenant_id()"), {
      settings: { "laurel.tenant": tenant },
    });
  } catch (error) {
    if (error instanceof DatabaseError && error.code === "LR001") throw new ImportError(error.message);
    throw error;
  }
}

/** Without its attributes every line of the file would be bad. */
async function provideAttributes(
  pools: Pick<Pools, "admin" | "service">,
  tenant: string,
  keys: readonly string[],
  mayCreate: boolean,
): Promise<void> {
  const settings = { "laurel.tenant": tenant };
  const found = await inTransaction(
    pools.service,
    (client) =>
      client.query<{ key: string }>(
        `select k.key from unnest($1::text[]) with ordinality as k (key, no)
         where not exists (
           select from laurel.attributes a
           where a.tenant_id = laurel.current_tenant_id() and a.type = 'event' and a.key = k.key)
         order by k.no`,
        [keys],
      ),
    { settings },
  );
  const missing = found.rows.map(({ key }) => key);
  if (missing.length === 0) return;
  if (!mayCreate) {
    throw new ImportError(
      `no event attribute has the key ${missing.join(", ")}: declare it first, or run again with --create`,
    );
  }
  const misspelt = missing.filter((key) => !isKey(key));
  if (misspelt.length > 0) {
    throw new ImportError(`line 1: ${misspelt.join(", ")} cannot be an attribute's key: use letters, digits, - and _`);
  }
  await inTransaction(
    pools.admin,
    (client) =>
      client.query(
        `insert into laurel.attributes (key, name, type)
         select k.key, k.name, 'event' from unnest($1::text[], $2::text[]) as k (key, name) on conflict do nothing`,
        [missing, missing.map(nameOfKey)],
      ),
    { settings },
  );
}

/** Returns a function that makes the metrics of these rows where they are missing. */
function metricCreator({ admin }: Pick<Pools, "admin">, tenant: string): (rows: readonly EventRow[]) => Promise<void> {
  const known = new Set<string>();
  return async (rows) => {
    // Keys that cannot be a metric's are left for the database to refuse.
    const unseen = [...new Set(rows.map(({ metricKey }) => metricKey))].filter((key) => !known.has(key) && isKey(key));
    if (unseen.length === 0) return;
    await inTransaction(
      admin,
      (client) =>
        client.query(
          "insert into laurel.metrics (key, name) select k.key, k.name from unnest($1::text[], $2::text[]) as k (key, name) on conflict do nothing",
          [unseen, unseen.map(nameOfKey)],
        ),
      { settings: { "laurel.tenant": tenant } },
    );
    for (const key of unseen) known.add(key);
  };
}

function isKey(text: string): boolean {
  return /^[A-Za-z0-9_-]{1,255}$/.test(text);
}

/** "files-changed" → "Files changed". */
function nameOfKey(key: string): string {
  const words = key.replaceAll(/[-_]+/g, " ").trim() || key;
  return words.charAt(0).toUpperCase() + words.slice(1);
}
