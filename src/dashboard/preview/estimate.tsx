import { useEffect, useState } from "preact/hooks";
import { call } from "../api.ts";
import { count, figure } from "../format.ts";
import type { System, TriggerRow } from "../records.ts";
import { conditions, type Filter, triggerSentence } from "../sentences.ts";
import { useMetrics } from "../reads.ts";
import { Bars } from "../ui/bars.tsx";
import { Field, OtherFault, useFaults } from "../ui/form.tsx";
import { numberOf, type Preview, streamsOf } from "./scenario.ts";

const pauseMs = 400;

/** Type how often things happen; see what one user would earn, trigger by trigger, from the engine itself. */
export function Estimate({ system }: { readonly system: System }) {
  const triggers = system.triggers.nodes;
  const metrics = useMetrics().data ?? [];
  const streams = streamsOf(triggers);
  const [days, setDays] = useState("7");
  const [perDay, setPerDay] = useState<Readonly<Record<string, string>>>({});
  const [withInactive, setWithInactive] = useState(triggers.every(({ status }) => status === "inactive"));
  const [found, setFound] = useState<Preview>();
  const faults = useFaults();
  const body = requestFor();
  const content = JSON.stringify(body);
  const path = `/admin/v1/points/${system.id}/preview`;
  useEffect(() => {
    let isOver = false;
    const timer = setTimeout(() => {
      call<Preview>("POST", path, body).then(
        (answer) => {
          if (isOver) return;
          setFound(answer);
          faults.clear();
        },
        (error: unknown) => {
          if (!isOver) faults.note(error);
        },
      );
    }, pauseMs);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [content, path]);

  /** One user who does just this every day, and whom every trigger accepts. */
  function requestFor(): object {
    const attributes = Object.assign({}, ...triggers.map(({ userAttributes }) => userAttributes)) as Filter;
    return {
      days: Number(days),
      seed: 1,
      kinds: [{
        name: "user", users: 1, activeDays: 1, attributes,
        events: streams.map(({ metric, attributes: own }) => ({
          metric, perDay: numberOf(perDay[nameOf({ metric, attributes: own })] ?? "1"), ...(Object.keys(own).length === 0 ? {} : { attributes: own }),
        })),
      }],
      ...(withInactive ? { draft: { triggers: triggers.filter(({ status }) => status === "inactive").map(({ id }) => ({ id, status: "active" })) } } : {}),
    };
  }

  const kind = found?.kinds[0];
  return (
    <section class="card estimate" aria-labelledby="estimate-title">
      <h3 id="estimate-title">Estimate</h3>
      <p class="hint">How often does one user do these?</p>
      <div class="form">
        {streams.map((stream, index) => {
          const name = nameOf(stream);
          const metric = metrics.find(({ key }) => key === stream.metric);
          return (
            <Field
              key={name}
              form={faults}
              name={`kinds[0].events[${index}].perDay`}
              label={`${metric?.name ?? stream.metric}${Object.keys(stream.attributes).length > 0 ? ` with ${conditions(stream.attributes)}` : ""}, a day`}
              isInline
            >
              {(described) => (
                <input {...described} class="number" inputMode="decimal" autocomplete="off" value={perDay[name] ?? "1"} onInput={(event) => {
                  setPerDay({ ...perDay, [name]: event.currentTarget.value });
                }} />
              )}
            </Field>
          );
        })}
        <Field form={faults} name="days" label="Days" isInline>
          {(described) => (
            <select {...described} value={days} onChange={(event) => {
              setDays(event.currentTarget.value);
            }}>
              {["1", "7", "30", "90"].map((value) => <option key={value} value={value} selected={value === days}>{value}</option>)}
            </select>
          )}
        </Field>
        {triggers.some(({ status }) => status === "inactive") && (
          <label class="choice">
            <input type="checkbox" checked={withInactive} onChange={(event) => {
              setWithInactive(event.currentTarget.checked);
            }} />
            inactive triggers too, as if active
          </label>
        )}
      </div>
      <OtherFault form={faults} />
      {kind !== undefined && (
        <div aria-live="polite">
          <p class="big-figure">{figure(kind.totals.at(-1)?.p50 ?? 0)} <small>{system.name} after {count(days, "day")}</small></p>
          <Bars
            caption="Points by trigger"
            head="Trigger"
            valueHead="Points"
            rows={kind.byTrigger.map(({ trigger, awarded, firings }) => ({
              label: labelOf(triggers.find(({ id }) => id === trigger.id), trigger.type), value: awarded, note: firings === 1 ? "once" : `${figure(firings)} times`,
            }))}
          />
        </div>
      )}
      <details>
        <summary>The same by a call</summary>
        <pre tabIndex={0}><code>{`curl -X POST ${location.origin}${path} \\\n  -H "X-API-KEY: $KEY" -H 'Content-Type: application/json' \\\n  -d '${content}'`}</code></pre>
      </details>
    </section>
  );
}

const nameOf = ({ metric, attributes }: { readonly metric: string; readonly attributes: Filter }): string => `${metric} ${conditions(attributes)}`.trim();

const labelOf = (trigger: TriggerRow | undefined, type: string): string =>
  trigger === undefined ? type : triggerSentence({ ...trigger, metric: trigger.metric ?? undefined, achievementName: trigger.achievement?.name });
