import { useEffect, useState } from "preact/hooks";
import { call } from "../api.ts";
import { useReading } from "../data.ts";
import { moment } from "../format.ts";
import type { AuditRow } from "../records.ts";
import { Empty, Page, Read } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";

const pageSize = 50;

/** Who changed what of the configuration. */
export function AuditLog() {
  const [size, setSize] = useState(pageSize);
  const [rows, setRows] = useState<readonly AuditRow[]>();
  const reading = useReading(async () => {
    const found: AuditRow[] = [];
    while (found.length < size) {
      const page = await call<AuditRow[]>("GET", `/admin/v1/audit-log?limit=${pageSize}&skip=${found.length}`);
      found.push(...page);
      if (page.length < pageSize) break;
    }
    return found;
  }, ["audit", size]);
  useEffect(() => {
    if (reading.data !== undefined) setRows(reading.data);
  }, [reading.data]);
  return (
    <Page title="Audit log" lead="Every change of the configuration: which key made it, and what was there before and after.">
      <Read reading={{ ...reading, data: reading.data ?? rows }}>
        {(entries) => entries.length === 0 ? <Empty title="Nothing was changed yet.">Whatever is configured, here or by a call, will be listed.</Empty> : (
          <>
            <Table
              caption="Changes of the configuration, the latest first"
              rows={entries}
              keyOf={({ id }) => id}
              columns={[
                { head: "When", cell: ({ date }) => moment(date) },
                { head: "What", isName: true, cell: ({ operation, kind, objectKey }) => <>{operation} {kind.replaceAll("_", " ")}{objectKey !== null && <> <code>{objectKey}</code></>}</> },
                { head: "Who", cell: ({ actor }) => <code>{actor}</code> },
                { head: "Change", cell: (entry) => <Difference entry={entry} /> },
              ]}
            />
            {entries.length >= size && (
              <p><button type="button" class="button" onClick={() => {
                setSize(size + pageSize);
              }}>Show more</button></p>
            )}
          </>
        )}
      </Read>
    </Page>
  );
}

/** Columns that change with everything say nothing. */
const silent = new Set(["id", "tenant_id", "created_at", "updated_at", "system_id"]);

function Difference({ entry: { before, after } }: { readonly entry: AuditRow }) {
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])]
    .filter((name) => !silent.has(name) && textOf(before?.[name]) !== textOf(after?.[name]));
  if (names.length === 0) return <span class="muted">–</span>;
  return (
    <details>
      <summary>{names.length > 3 ? `${names.slice(0, 3).map(words).join(", ")} and ${names.length - 3} more` : names.map(words).join(", ")}</summary>
      <dl class="difference">
        {names.map((name) => (
          <div key={name}>
            <dt>{words(name)}</dt>
            <dd>
              {before?.[name] !== undefined && <del>{textOf(before[name])}</del>} {after?.[name] !== undefined && <ins>{textOf(after[name])}</ins>}
            </dd>
          </div>
        ))}
      </dl>
    </details>
  );
}

const words = (name: string): string => name.replaceAll("_", " ");
const textOf = (value: unknown): string => (typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value));
