import { useEffect, useState } from "preact/hooks";
import { call } from "../../api.ts";
import { count, figure } from "../../format.ts";
import { Backtest } from "../../preview/backtest.tsx";
import { type Kind, type Preview, type PreviewKind, requestOf, type Scenario, scenarioOf } from "../../preview/scenario.ts";
import { useAttributes, useMetrics } from "../../reads.ts";
import type { System } from "../../records.ts";
import { conditions, triggerSentence } from "../../sentences.ts";
import { useStore } from "../../stores.ts";
import { Bars } from "../../ui/bars.tsx";
import { TimeChart } from "../../ui/chart.tsx";
import { type Faults, Field, onceOf, OtherFault, useFaults, useFocusOnFault } from "../../ui/form.tsx";
import { Section } from "../../ui/page.tsx";
import { Table } from "../../ui/table.tsx";

/** What the rules of today would give users that are made up. */
function MadeUpUsers({ system }: { readonly system: System }) {
  const store = scenarioOf(system);
  const scenario = useStore(store);
  const [found, setFound] = useState<Preview>();
  const faults = useFaults();
  const [isBusy, setIsBusy] = useState(false);
  const element = useFocusOnFault(isBusy);
  const run = (): void => {
    if (isBusy) return;
    setIsBusy(true);
    faults.clear();
    call<Preview>("POST", `/admin/v1/points/${system.id}/preview`, requestOf(scenario))
      .then(setFound, faults.note)
      .finally(() => {
        setIsBusy(false);
      });
  };
  useEffect(run, [system.id]);
  return (
    <Section title="Preview" lead="Made-up users live through some days under the rules as they are, in the real engine. Nothing is stored and no message leaves. The same users are tried beside every form.">
      <form class="form" noValidate ref={element} onSubmit={(event) => {
        event.preventDefault();
        run();
      }}>
        <ScenarioFields scenario={scenario} faults={faults} change={(next) => {
          // The server named a kind by its place.
          if (next.kinds.length !== scenario.kinds.length) faults.clear();
          store.set(next);
        }} />
        <OtherFault form={faults} />
        <div class="form-actions">
          <button type="submit" class="button primary" disabled={isBusy} aria-busy={isBusy} onClick={onceOf}>Run the preview</button>
          <button type="button" class="button" onClick={() => {
            const model = scenario.kinds.at(-1);
            if (model !== undefined) store.set({ ...scenario, kinds: [...scenario.kinds, { ...model, name: `Kind ${scenario.kinds.length + 1}` }] });
          }}>Add a kind of user</button>
        </div>
      </form>
      {found !== undefined && <Outcome system={system} preview={found} />}
    </Section>
  );
}

/** Rules tried on users: made-up ones, and those that there are. */
export function SystemPreview({ system }: { readonly system: System }) {
  return (
    <>
      <MadeUpUsers system={system} />
      <Backtest system={system} />
    </>
  );
}

function ScenarioFields({ scenario, faults, change }: {
  readonly scenario: Scenario;
  readonly faults: Faults;
  readonly change: (next: Scenario) => void;
}) {
  const attributes = (useAttributes().data ?? []).filter(({ type }) => type === "user");
  const metrics = useMetrics().data ?? [];
  const put = (index: number, part: Partial<Kind>): void => {
    change({ ...scenario, kinds: scenario.kinds.map((kind, at) => (at === index ? { ...kind, ...part } : kind)) });
  };
  return (
    <>
      <Small faults={faults} name="days" label="Days" value={scenario.days} onInput={(days) => {
        change({ ...scenario, days });
      }} />
      <div class="kinds">
        {scenario.kinds.map((kind, index) => (
          <fieldset class="card kind" key={index}>
            <legend class="visually-hidden">{kind.name} users</legend>
            <div class="kind-head">
              <Small faults={faults} name={`kinds[${index}].name`} label="Kind of user" value={kind.name} isText onInput={(name) => {
                put(index, { name });
              }} />
              {scenario.kinds.length > 1 && (
                <button type="button" class="icon-button" aria-label={`Remove ${kind.name}`} onClick={() => {
                  change({ ...scenario, kinds: scenario.kinds.filter((_kind, at) => at !== index) });
                }}>×</button>
              )}
            </div>
            <div class="field-row">
              <Small faults={faults} name={`kinds[${index}].users`} label="Users" value={kind.users} onInput={(users) => {
                put(index, { users });
              }} />
              <Small faults={faults} name={`kinds[${index}].activeDays`} label="Active days, %" value={kind.activeDays} onInput={(activeDays) => {
                put(index, { activeDays });
              }} />
            </div>
            {kind.streams.map((stream, at) => {
              const name = `${metrics.find(({ key }) => key === stream.metric)?.name ?? stream.metric}${Object.keys(stream.attributes).length === 0 ? "" : ` (${conditions(stream.attributes)})`}`;
              const set = (part: { least?: string; most?: string }): void => {
                put(index, { streams: kind.streams.map((other, place) => (place === at ? { ...other, ...part } : other)) });
              };
              // The place inside it, of two numbers, is one of the two.
              const place = `kinds[${index}].events[${at}]`;
              const fault = [`${place}.perDay`, `${place}.perDay[0]`, `${place}.perDay[1]`, `${place}.metric`].map(faults.faultOf).find((each) => each !== undefined);
              const id = `fault ${place}`.replaceAll(/\W+/g, "-");
              const described = fault === undefined ? {} : { "aria-invalid": true, "aria-describedby": id };
              return (
                <div class={fault === undefined ? "stream" : "stream has-fault"} key={at} role="group" aria-label={`${kind.name}: ${name} a day`}>
                  <span class="hint">{name}, a day</span>
                  <input {...described} class="number" inputMode="numeric" aria-label={`${kind.name}: ${name}, at least`} value={stream.least} onInput={(event) => {
                    set({ least: event.currentTarget.value });
                  }} />
                  <span>to</span>
                  <input {...described} class="number" inputMode="numeric" aria-label={`${kind.name}: ${name}, at most`} value={stream.most} onInput={(event) => {
                    set({ most: event.currentTarget.value });
                  }} />
                  {fault !== undefined && <p class="fault" id={id} role="alert">{fault}</p>}
                </div>
              );
            })}
            {attributes.length > 0 && attributes.map(({ key, name }) => (
              <Small key={key} faults={faults} name={`kinds[${index}].attributes.${key}`} label={name} isText value={kind.attributes[key] ?? ""} onInput={(text) => {
                const others = Object.fromEntries(Object.entries(kind.attributes).filter(([other]) => other !== key));
                put(index, { attributes: text === "" ? others : { ...others, [key]: text } });
              }} />
            ))}
          </fieldset>
        ))}
      </div>
    </>
  );
}

function Small({ faults, name, label, value, isText = false, onInput }: {
  readonly faults: Faults;
  /** Where it is in the scenario. */
  readonly name: string;
  readonly label: string;
  readonly value: string;
  readonly isText?: boolean;
  readonly onInput: (text: string) => void;
}) {
  return (
    <Field form={faults} name={name} label={label} isInline>
      {(described) => (
        <input {...described} value={value} {...(isText ? {} : { class: "number", inputMode: "numeric" as const })} autocomplete="off" onInput={(event) => {
          onInput(event.currentTarget.value);
        }} />
      )}
    </Field>
  );
}

const colors = ["muted", "gold", "leaf", "danger"] as const;

function Outcome({ system, preview }: { readonly system: System; readonly preview: Preview }) {
  return (
    <div class="outcome">
      <TimeChart
        title={`Median total in ${system.name} over ${count(preview.days, "day")}`}
        dates={preview.kinds[0]?.totals.map(({ date }) => date) ?? []}
        height={260}
        series={preview.kinds.map(({ name, totals }, index) => ({ label: name, color: colors[index % colors.length] ?? "leaf", values: totals.map(({ p50 }) => p50) }))}
      />
      <Table
        caption="Totals at the end, by kind of user"
        rows={preview.kinds}
        keyOf={({ name }) => name}
        columns={[
          { head: "Users", isName: true, cell: ({ name }) => name },
          { head: "Tenth", isFigure: true, cell: ({ totals }) => figure(totals.at(-1)?.p10 ?? 0) },
          { head: "Median", isFigure: true, cell: ({ totals }) => <b>{figure(totals.at(-1)?.p50 ?? 0)}</b> },
          { head: "Ninetieth", isFigure: true, cell: ({ totals }) => figure(totals.at(-1)?.p90 ?? 0) },
          { head: "Levels", cell: (kind) => levelsOf(system, kind) },
          { head: "Lost", cell: ({ lost }) => lostOf(lost) },
        ]}
      />
      <div class="columns">
        {preview.kinds.map(({ name, byTrigger }) => (
          <Section key={name} title={`${name}: points by trigger`}>
            <Bars
              caption={`Points of ${name} users by trigger`}
              head="Trigger"
              valueHead="Points"
              rows={byTrigger.map(({ trigger, awarded }) => {
                const saved = system.triggers.nodes.find(({ id }) => id === trigger.id);
                return { label: saved === undefined ? trigger.type : triggerSentence({ ...saved, metric: saved.metric ?? undefined, achievementName: saved.achievement?.name }), value: awarded };
              })}
            />
          </Section>
        ))}
      </div>
    </div>
  );
}

/** "Bronze on day 3, Silver on day 12 (40 %)" */
function levelsOf(system: System, { levels }: PreviewKind): string {
  const reached = levels.filter(({ share }) => share > 0).map(({ key, share, medianDay }) => {
    const name = system.levels.nodes.find((level) => level.key === key)?.name ?? key;
    return `${name}${medianDay === null ? "" : ` on day ${medianDay}`}${share < 1 ? ` (${Math.round(share * 100)} %)` : ""}`;
  });
  return reached.length === 0 ? "–" : reached.join(", ");
}

function lostOf({ rounding, cap, floor }: PreviewKind["lost"]): string {
  const parts = [[cap, "to the cap"], [floor, "to the floor"], [rounding, "to rounding"]] as const;
  const lost = parts.filter(([amount]) => amount !== 0).map(([amount, where]) => `${figure(String(amount))} ${where}`);
  return lost.length === 0 ? "nothing" : lost.join(", ");
}
