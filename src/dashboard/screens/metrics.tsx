import { useState } from "preact/hooks";
import { createOne, deleteOne, updateOne } from "../api.ts";
import { latestOf } from "../data.ts";
import { useMetrics } from "../reads.ts";
import type { MetricRow } from "../records.ts";
import { addressOf, Link } from "../router.tsx";
import { Confirm, Dialog } from "../ui/dialog.tsx";
import { Form, keyFrom, keyOf, SelectField, TextField, useForm } from "../ui/form.tsx";
import { Empty, Page, Read } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";

const path = "/admin/v1/metrics";

/** What is counted. */
export function Metrics() {
  const reading = useMetrics();
  const [open, setOpen] = useState<MetricRow | "new">();
  const [archiving, setArchiving] = useState<MetricRow>();
  const add = (
    <button
      type="button"
      class="button primary"
      onClick={() => {
        setOpen("new");
      }}
    >
      Add a metric
    </button>
  );
  return (
    <Page title="Metrics" lead="What your users do, counted: tasks finished, lessons read, money spent. Events are sent to a metric by its key." actions={add}>
      <Read reading={reading}>
        {(metrics) => metrics.length === 0 ? (
          <Empty title="Nothing is counted yet.">
            Add the first thing your users do. Then a points system can pay for it.
          </Empty>
        ) : (
          <Table
            caption="Metrics"
            rows={metrics}
            keyOf={({ id }) => id}
            columns={[
              { head: "Name", isName: true, cell: ({ name }) => name },
              { head: "Key", cell: ({ key }) => <code>{key}</code> },
              { head: "Units", cell: ({ unitType, units }) => (unitType === "currency" ? `currency${units === "" ? "" : `: ${units}`}` : units === "" ? "–" : units) },
              { head: "Pays in", cell: ({ pointsTriggers }) => <PaysIn triggers={pointsTriggers.nodes} /> },
              {
                head: "Actions",
                isAction: true,
                cell: (metric) => (
                  <>
                    <button type="button" class="button small" aria-label={`Edit ${metric.name}`} onClick={() => {
                      setOpen(metric);
                    }}>Edit</button>
                    <button type="button" class="button small quiet" aria-label={`Archive ${metric.name}`} onClick={() => {
                      setArchiving(metric);
                    }}>Archive</button>
                  </>
                ),
              },
            ]}
          />
        )}
      </Read>
      {open !== undefined && <MetricForm metric={latestOf(open, reading.data)} onClose={() => {
        setOpen(undefined);
      }} />}
      {archiving !== undefined && (
        <Confirm title={`Archive ${archiving.name}?`} action="Archive" run={() => deleteOne(path, archiving.id)} onClose={() => {
          setArchiving(undefined);
        }}>
          <p>It takes no events any more, and triggers on it stop. What users have earned stays. The key becomes free.</p>
        </Confirm>
      )}
    </Page>
  );
}

function PaysIn({ triggers }: { readonly triggers: MetricRow["pointsTriggers"]["nodes"] }) {
  const systems = new Map(triggers.flatMap(({ system }) => (system === null ? [] : [[system.key, system.name]])));
  if (systems.size === 0) return <span class="muted">nothing yet</span>;
  return <>{[...systems].map(([key, name], index) => <span key={key}>{index > 0 && ", "}<Link href={addressOf("systems", key)}>{name}</Link></span>)}</>;
}

/** Adds or changes a metric. Opened from the set-up, too. */
export function MetricForm({ metric, onClose }: { readonly metric: MetricRow | undefined; readonly onClose: () => void }) {
  const form = useForm({
    draft: `metric ${metric?.id ?? ""}`,
    initial: { name: metric?.name ?? "", key: metric?.key ?? "", unitType: metric?.unitType ?? "number", units: metric?.units ?? "" },
    version: metric?.updatedAt,
    words: { unitType: /unitType/, units: /\bunits?\b|currency/i, key: /\bkey\b/i, name: /\bname\b/i },
    submit: async ({ name, key, unitType, units }, { version }) => {
      if (metric === undefined) await createOne(path, { name, key: keyOf({ name, key }), unitType, units });
      else await updateOne(path, { id: metric.id, name, unitType, units, unchangedSince: version });
      onClose();
    },
  });
  const { name, key } = form.values;
  return (
    <Dialog title={metric === undefined ? "Add a metric" : `Edit ${metric.name}`} onClose={onClose}>
      <Form form={form} submitLabel={metric === undefined ? "Add the metric" : "Save"} onCancel={onClose}>
        <TextField form={form} name="name" label="Name" placeholder="Tasks completed" />
        {metric === undefined && (
          <TextField form={form} name="key" label="Key" placeholder={keyFrom(name)} hint={<>Events name it: <code>POST /v1/metrics/{key === "" ? keyFrom(name) || "…" : key}/event</code></>} />
        )}
        <SelectField form={form} name="unitType" label="Kind" options={[{ value: "number", label: "a number of things" }, { value: "currency", label: "an amount of money" }]} />
        <TextField form={form} name="units" label="Units" placeholder={form.values.unitType === "currency" ? "USD" : "tasks"} hint="What one is called, or the currency's code. May stay empty." />
      </Form>
    </Dialog>
  );
}
