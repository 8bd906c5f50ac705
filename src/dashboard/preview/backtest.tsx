import { useState } from "preact/hooks";
import type { z } from "zod";
import type { backtestAnswer } from "../../rest/admin/insight_answers.ts";
import { call } from "../api.ts";
import { count, figure, signed, today } from "../format.ts";
import type { System } from "../records.ts";
import { keptUntilSignOut } from "../session.ts";
import { triggerSentence } from "../sentences.ts";
import { TimeChart } from "../ui/chart.tsx";
import { Field, onceOf, OtherFault, useFaults, useFocusOnFault } from "../ui/form.tsx";
import { Empty, Section } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";
import { numberOf } from "./scenario.ts";

type Backtest = z.output<typeof backtestAnswer>;

interface Request {
  readonly from: string;
  readonly to: string;
  readonly sample: string;
  readonly maxPoints: string;
  readonly withInactive: boolean;
}

/** What was typed, by system: it outlives a look at another screen. */
const requests = keptUntilSignOut<string, Request>();

const monthMs = 29 * 86_400_000;

function firstRequest(system: System): Request {
  return {
    from: new Date(Date.parse(today()) - monthMs).toISOString().slice(0, 10),
    to: today(),
    sample: "100",
    maxPoints: system.maxPoints === null ? "" : String(system.maxPoints),
    withInactive: system.triggers.nodes.some(({ status }) => status === "inactive"),
  };
}

/** What real users would have got for what they did: by the rules as they are, and with changes that cost nothing to try. */
export function Backtest({ system }: { readonly system: System }) {
  const [request, setRequest] = useState(requests.get(system.id) ?? firstRequest(system));
  const [found, setFound] = useState<Backtest>();
  const faults = useFaults();
  const [isBusy, setIsBusy] = useState(false);
  const element = useFocusOnFault(isBusy);
  const set = (change: Partial<Request>): void => {
    const next = { ...request, ...change };
    requests.set(system.id, next);
    setRequest(next);
  };
  const inactive = system.triggers.nodes.filter(({ status }) => status === "inactive");
  const run = (): void => {
    if (isBusy) return;
    setIsBusy(true);
    faults.clear();
    call<Backtest>("POST", `/admin/v1/points/${system.id}/backtest`, {
      from: request.from,
      to: request.to,
      users: { sample: request.sample.trim() === "" ? null : numberOf(request.sample), seed: 1 },
      draft: {
        maxPoints: request.maxPoints.trim() === "" ? null : numberOf(request.maxPoints),
        ...(request.withInactive && inactive.length > 0 ? { triggers: inactive.map(({ id }) => ({ id, status: "active" })) } : {}),
      },
    }).then(setFound, faults.note).finally(() => {
      setIsBusy(false);
    });
  };
  return (
    <Section title="Backtest" lead="Some of your real users live through those days again, in a copy that is thrown away: with the rules as they are, and with the changes chosen here.">
      <form class="form" noValidate ref={element} onSubmit={(event) => {
        event.preventDefault();
        run();
      }}>
        <div class="field-row">
          {(["from", "to"] as const).map((end) => (
            <Field key={end} form={faults} name={end} label={end === "from" ? "From" : "To"}>
              {(described) => <input {...described} type="date" max={today()} value={request[end]} onChange={(event) => {
                set({ [end]: event.currentTarget.value });
              }} />}
            </Field>
          ))}
          <Field form={faults} name="users.sample" label="Users, at most">
            {(described) => <input {...described} class="number" inputMode="numeric" autocomplete="off" value={request.sample} onInput={(event) => {
              set({ sample: event.currentTarget.value });
            }} />}
          </Field>
          <Field form={faults} name="draft.maxPoints" label="With a cap of">
            {(described) => <input {...described} class="number" inputMode="numeric" autocomplete="off" placeholder="none" value={request.maxPoints} onInput={(event) => {
              set({ maxPoints: event.currentTarget.value });
            }} />}
          </Field>
        </div>
        {inactive.length > 0 && (
          <label class="choice">
            <input type="checkbox" checked={request.withInactive} onChange={(event) => {
              set({ withInactive: event.currentTarget.checked });
            }} />
            with the {inactive.length === 1 ? "inactive trigger" : `${figure(inactive.length)} inactive triggers`}, as if active
          </label>
        )}
        <OtherFault form={faults} />
        <div class="form-actions">
          <button type="submit" class="button primary" disabled={isBusy} aria-busy={isBusy} onClick={onceOf}>Run the backtest</button>
        </div>
      </form>
      {found !== undefined && <Outcome system={system} found={found} />}
    </Section>
  );
}

function Outcome({ system, found: { users, events, current, draft, from, to } }: { readonly system: System; readonly found: Backtest }) {
  if (users === 0) return <div class="outcome"><Empty title="There are no users yet.">Send an event of one, then try again.</Empty></div>;
  const last = (side: Backtest["current"]) => side.totals.at(-1);
  const rows = ([["A tenth have at most", "p10"], ["Half have at most", "p50"], ["Nine tenths have at most", "p90"]] as const)
    .map(([name, share]) => ({ name, before: last(current)?.[share] ?? 0, after: last(draft)?.[share] ?? 0 }));
  const awards = draft.byTrigger.map(({ trigger, awarded }) => {
    const saved = system.triggers.nodes.find(({ id }) => id === trigger.id);
    return {
      name: saved === undefined ? trigger.type : triggerSentence({ ...saved, metric: saved.metric ?? undefined, achievementName: saved.achievement?.name }),
      before: current.byTrigger.find((other) => other.trigger.id === trigger.id)?.awarded ?? 0,
      after: awarded,
    };
  });
  return (
    <div class="outcome">
      <p class="hint">{count(users, "user")} with {count(events, "event")} on these days.</p>
      <TimeChart
        title={`Median total in ${system.name}, as it is and with the changes`}
        dates={current.totals.map(({ date }) => date)}
        series={[
          { label: "as it is", color: "muted", isDashed: true, values: current.totals.map(({ p50 }) => p50) },
          { label: "with the changes", values: draft.totals.map(({ p50 }) => p50) },
        ]}
      />
      <Compared caption={`Totals on the last of the days from ${from} to ${to}`} head="Users" rows={rows} />
      {awards.length > 0 && <Compared caption="Points by trigger" head="Trigger" rows={awards} />}
    </div>
  );
}

interface Row {
  readonly name: string;
  readonly before: number;
  readonly after: number;
}

function Compared({ caption, head, rows }: { readonly caption: string; readonly head: string; readonly rows: readonly Row[] }) {
  return (
    <Table
      caption={caption}
      rows={rows}
      keyOf={({ name }) => name}
      columns={[
        { head, isName: true, cell: ({ name }: Row) => name },
        { head: "As it is", isFigure: true, cell: ({ before }: Row) => figure(before) },
        { head: "With the changes", isFigure: true, cell: ({ after }: Row) => <b>{figure(after)}</b> },
        { head: "Difference", isFigure: true, cell: ({ before, after }: Row) => (after === before ? "–" : <span class={after < before ? "negative" : "positive"}>{signed(after - before)}</span>) },
      ]}
    />
  );
}
