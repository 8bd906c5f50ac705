import { useEffect, useState } from "preact/hooks";
import { call } from "../../api.ts";
import { sentenceOf } from "../../data.ts";
import { count, figure } from "../../format.ts";
import { type Kind, type Preview, type PreviewKind, requestOf, type Scenario, scenarioOf } from "../../preview/scenario.ts";
import { useAttributes, useMetrics } from "../../reads.ts";
import type { System } from "../../records.ts";
import { conditions, triggerSentence } from "../../sentences.ts";
import { useStore } from "../../stores.ts";
import { Bars } from "../../ui/bars.tsx";
import { TimeChart } from "../../ui/chart.tsx";
import { Section } from "../../ui/page.tsx";
import { Table } from "../../ui/table.tsx";

/** What the rules of today would give users that are made up. */
export function SystemPreview({ system }: { readonly system: System }) {
  const store = scenarioOf(system);
  const scenario = useStore(store);
  const [found, setFound] = useState<Preview>();
  const [fault, setFault] = useState<string>();
  const [isBusy, setIsBusy] = useState(false);
  const run = (): void => {
    setIsBusy(true);
    setFault(undefined);
    call<Preview>("POST", `/admin/v1/points/${system.id}/preview`, requestOf(scenario))
      .then(setFound, (error: unknown) => {
        setFault(sentenceOf(error));
      })
      .finally(() => {
        setIsBusy(false);
      });
  };
  useEffect(run, [system.id]);
  return (
    <Section title="Preview" lead="Made-up users live through some days under the rules as they are, in the real engine. Nothing is stored and no message leaves. The same users are tried beside every form.">
      <form class="form" noValidate onSubmit={(event) => {
        event.preventDefault();
        run();
      }}>
        <ScenarioFields scenario={scenario} change={store.set} />
        {fault !== undefined && <p class="fault" role="alert">{fault}</p>}
        <div class="form-actions">
          <button type="submit" class="button primary" disabled={isBusy} aria-busy={isBusy}>Run the preview</button>
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

function ScenarioFields({ scenario, change }: { readonly scenario: Scenario; readonly change: (next: Scenario) => void }) {
  const attributes = (useAttributes().data ?? []).filter(({ type }) => type === "user");
  const metrics = useMetrics().data ?? [];
  const put = (index: number, part: Partial<Kind>): void => {
    change({ ...scenario, kinds: scenario.kinds.map((kind, at) => (at === index ? { ...kind, ...part } : kind)) });
  };
  return (
    <>
      <Small id="preview-days" label="Days" value={scenario.days} onInput={(days) => {
        change({ ...scenario, days });
      }} />
      <div class="kinds">
        {scenario.kinds.map((kind, index) => (
          <fieldset class="card kind" key={index}>
            <legend class="visually-hidden">{kind.name} users</legend>
            <div class="kind-head">
              <Small id={`kind-${index}-name`} label="Kind of user" value={kind.name} isText onInput={(name) => {
                put(index, { name });
              }} />
              {scenario.kinds.length > 1 && (
                <button type="button" class="icon-button" aria-label={`Remove ${kind.name}`} onClick={() => {
                  change({ ...scenario, kinds: scenario.kinds.filter((_kind, at) => at !== index) });
                }}>×</button>
              )}
            </div>
            <div class="field-row">
              <Small id={`kind-${index}-users`} label="Users" value={kind.users} onInput={(users) => {
                put(index, { users });
              }} />
              <Small id={`kind-${index}-days`} label="Active days, %" value={kind.activeDays} onInput={(activeDays) => {
                put(index, { activeDays });
              }} />
            </div>
            {kind.streams.map((stream, at) => {
              const name = `${metrics.find(({ key }) => key === stream.metric)?.name ?? stream.metric}${Object.keys(stream.attributes).length === 0 ? "" : ` (${conditions(stream.attributes)})`}`;
              const set = (part: { least?: string; most?: string }): void => {
                put(index, { streams: kind.streams.map((other, place) => (place === at ? { ...other, ...part } : other)) });
              };
              return (
                <div class="stream" key={at} role="group" aria-label={`${kind.name}: ${name} a day`}>
                  <span class="hint">{name}, a day</span>
                  <input class="number" inputMode="numeric" aria-label={`${kind.name}: ${name}, at least`} value={stream.least} onInput={(event) => {
                    set({ least: event.currentTarget.value });
                  }} />
                  <span>to</span>
                  <input class="number" inputMode="numeric" aria-label={`${kind.name}: ${name}, at most`} value={stream.most} onInput={(event) => {
                    set({ most: event.currentTarget.value });
                  }} />
                </div>
              );
            })}
            {attributes.length > 0 && attributes.map(({ key, name }) => (
              <Small key={key} id={`kind-${index}-attribute-${key}`} label={name} isText value={kind.attributes[key] ?? ""} onInput={(text) => {
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

function Small({ id, label, value, isText = false, onInput }: {
  readonly id: string;
  readonly label: string;
  readonly value: string;
  readonly isText?: boolean;
  readonly onInput: (text: string) => void;
}) {
  return (
    <div class="field inline">
      <label for={id}>{label}</label>
      <input id={id} value={value} {...(isText ? {} : { class: "number", inputMode: "numeric" as const })} autocomplete="off" onInput={(event) => {
        onInput(event.currentTarget.value);
      }} />
    </div>
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
