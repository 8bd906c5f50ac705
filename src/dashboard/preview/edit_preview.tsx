import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api.ts";
import { revision, sentenceOf } from "../data.ts";
import { figure, signed } from "../format.ts";
import type { System } from "../records.ts";
import { addressOf, Link } from "../router.tsx";
import { useStore } from "../stores.ts";
import { TimeChart } from "../ui/chart.tsx";
import { Table } from "../ui/table.tsx";
import { type Draft, type Preview, requestOf, scenarioOf } from "./scenario.ts";

/** Typing goes on: one simulation per pause, not per letter. */
const pauseMs = 500;

interface Compared {
  readonly now: Preview;
  readonly draft: Preview;
}

/** What a change would do, beside the form that makes it: the engine's own answer on made-up users, now and with the change. */
export function EditPreview({ system, draft, level }: {
  readonly system: System;
  readonly draft: Draft;
  /** The key of a level that is being edited: then who reaches it is shown. */
  readonly level?: string;
}) {
  const scenario = useStore(scenarioOf(system));
  const changes = useStore(revision);
  const [found, setFound] = useState<Compared>();
  const [fault, setFault] = useState<string>();
  const [isBusy, setIsBusy] = useState(true);
  const content = JSON.stringify([scenario, draft]);
  /** What is without the change: the same however the change reads, until something is saved. */
  const today = useRef<{ readonly of: string; readonly preview: Promise<Preview> } | undefined>(undefined);
  useEffect(() => {
    let isOver = false;
    setIsBusy(true);
    const timer = setTimeout(() => {
      const path = `/admin/v1/points/${system.id}/preview`;
      const of = JSON.stringify([scenario, system.id, changes]);
      if (today.current?.of !== of) today.current = { of, preview: call<Preview>("POST", path, requestOf(scenario)) };
      Promise.all([today.current.preview, call<Preview>("POST", path, requestOf(scenario, draft))]).then(
        ([now, changed]) => {
          if (isOver) return;
          setFound({ now, draft: changed });
          setFault(undefined);
          setIsBusy(false);
        },
        (error: unknown) => {
          // Asked again next time, whichever of the two it was.
          today.current = undefined;
          if (isOver) return;
          setFault(sentenceOf(error));
          setIsBusy(false);
        },
      );
    }, pauseMs);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [content, system.id, changes]);
  return (
    <div class={isBusy ? "edit-preview busy" : "edit-preview"} aria-busy={isBusy}>
      <h3>What it would do</h3>
      <p class="hint">{scenario.days} days of made-up users, through the real engine. Nothing is stored. <Link href={addressOf("systems", system.key, "preview")}>Change the users</Link></p>
      {fault !== undefined && <p class="note" role="status">{fault}</p>}
      {fault === undefined && found !== undefined && <Comparison found={found} level={level} />}
      {fault === undefined && found === undefined && <div class="loading" role="status"><span class="visually-hidden">Trying it</span></div>}
    </div>
  );
}

function Comparison({ found: { now, draft }, level }: { readonly found: Compared; readonly level: string | undefined }) {
  const rows = draft.kinds.map((kind, index) => ({
    name: kind.name,
    before: now.kinds[index]?.totals.at(-1)?.p50 ?? 0,
    after: kind.totals.at(-1)?.p50 ?? 0,
    reach: kind.levels.find(({ key }) => key === level),
  }));
  const last = draft.kinds.length - 1;
  return (
    <>
      <Table
        caption="Median total at the end, by kind of user"
        rows={rows}
        keyOf={({ name }) => name}
        columns={[
          { head: "Users", isName: true, cell: ({ name }) => name },
          { head: "Now", isFigure: true, cell: ({ before }) => figure(before) },
          { head: "Then", isFigure: true, cell: ({ after }) => <b>{figure(after)}</b> },
          ...(level === undefined ? [] : [{
            head: "Reach it",
            cell: ({ reach }: (typeof rows)[number]) => (reach === undefined || reach.share === 0 ? "nobody" : `${Math.round(reach.share * 100)} %${reach.medianDay === null ? "" : `, on day ${reach.medianDay}`}`),
          }]),
          { head: "Difference", isFigure: true, cell: ({ before, after }) => (after === before ? "–" : <span class={after < before ? "negative" : "positive"}>{signed(after - before)}</span>) },
        ]}
      />
      <TimeChart
        title={`Median total of ${draft.kinds[last]?.name ?? ""} users, now and then`}
        dates={draft.kinds[last]?.totals.map(({ date }) => date) ?? []}
        series={[
          { label: "now", color: "muted", isDashed: true, values: now.kinds[last]?.totals.map(({ p50 }) => p50) ?? [] },
          { label: "then", values: draft.kinds[last]?.totals.map(({ p50 }) => p50) ?? [] },
        ]}
      />
    </>
  );
}
