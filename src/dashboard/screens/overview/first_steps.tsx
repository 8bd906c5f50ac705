import type { ComponentChildren } from "preact";
import { ask, createOne, updateOne } from "../../api.ts";
import { useReading } from "../../data.ts";
import * as documents from "../../documents.ts";
import { SendEvent } from "../../parts/send_event.tsx";
import type { MetricRow, System, SystemRow } from "../../records.ts";
import { addressOf, Link } from "../../router.tsx";
import { triggerSentence } from "../../sentences.ts";
import { ActionButton } from "../../ui/dialog.tsx";
import { asNumber, Form, keyFrom, keyOf, TextField, useForm } from "../../ui/form.tsx";

/** The way from nothing to points: what is done already is read from the server, so that it can be left and taken up again. */
export function FirstSteps({ metrics, systems, hasEvents, isOver, onLeave }: {
  readonly metrics: readonly MetricRow[];
  readonly systems: readonly SystemRow[];
  readonly hasEvents: boolean;
  /** Whether nothing is new any more, and one may go on. */
  readonly isOver: boolean;
  readonly onLeave: () => void;
}) {
  const [metric] = metrics;
  const [system] = systems;
  const triggers = useReading(async () => {
    if (system === undefined) return [];
    const { pointsSystems } = await ask<{ pointsSystems: { nodes: System[] } }>(documents.pointsSystem, { key: system.key });
    return pointsSystems.nodes[0]?.triggers.nodes ?? [];
  }, ["first triggers", system?.key]);
  const active = triggers.data?.find(({ status }) => status === "active");
  const waiting = triggers.data?.find(({ status }) => status === "inactive");
  const done = [metric !== undefined, system !== undefined, active !== undefined, hasEvents];
  const current = done.indexOf(false);
  const areAllDone = current === -1;
  return (
    <>
      <ol class="steps">
        <Step number={1} title="What do your users do?" isDone={done[0] === true} isCurrent={current === 0} outcome={metric === undefined ? "" : `You count ${metric.name}.`}>
          <MetricStep />
        </Step>
        <Step number={2} title="What do they earn?" isDone={done[1] === true} isCurrent={current === 1} outcome={system === undefined ? "" : `They earn ${system.name}.`}>
          <SystemStep />
        </Step>
        <Step
          number={3}
          title="How much for what?"
          isDone={done[2] === true}
          isCurrent={current === 2}
          outcome={active === undefined ? "" : triggerSentence({ ...active, metric: active.metric ?? undefined, achievementName: active.achievement?.name })}
        >
          {system !== undefined && waiting === undefined && metric !== undefined && <RuleStep metric={metric} system={system} />}
          {system !== undefined && waiting !== undefined && (
            <div class="form">
              <p class="sentence">{triggerSentence({ ...waiting, metric: waiting.metric ?? undefined, achievementName: waiting.achievement?.name })}</p>
              <p>New triggers are inactive. This one pays nothing until you say so.</p>
              <div class="form-actions">
                <ActionButton
                  class="button primary"
                  run={async () => {
                    await updateOne(`/admin/v1/points/${system.id}/triggers`, { id: waiting.id, status: "active" });
                  }}
                >
                  Activate
                </ActionButton>
                <Link href={addressOf("systems", system.key, "triggers")} class="button">Change it first</Link>
              </div>
            </div>
          )}
        </Step>
        {/* Open when it is done, too: the answer is there to be read. */}
        <Step number={4} title="Send a real event" isDone={done[3] === true} isCurrent={current === 3} isOpen={areAllDone} outcome="Events arrive.">
          {!areAllDone && <p>Your server will do this whenever something happens. Do it once by hand, and see what comes back.</p>}
          <SendEvent suggestedUser="ada" />
        </Step>
      </ol>
      {isOver && (
        <p class="steps-end">
          That is all it takes.{" "}
          <button type="button" class="button primary" onClick={onLeave}>Go to the overview</button>
        </p>
      )}
    </>
  );
}

function Step({ number, title, isDone, isCurrent, isOpen = false, outcome, children }: {
  readonly number: number;
  readonly title: string;
  readonly isDone: boolean;
  readonly isCurrent: boolean;
  readonly isOpen?: boolean;
  readonly outcome: string;
  readonly children: ComponentChildren;
}) {
  return (
    <li class={["step", isDone ? "done" : "", isCurrent ? "current" : "", isOpen ? "open" : ""].join(" ").trim()} {...(isCurrent ? { "aria-current": "step" } : {})}>
      <span class="step-number" aria-hidden="true">{isDone ? "✓" : number}</span>
      <div>
        <h2>{title}{isDone && <span class="visually-hidden"> (done)</span>}</h2>
        {isDone && <p class="muted">{outcome}</p>}
        {(isOpen || isCurrent) && children}
      </div>
    </li>
  );
}

function MetricStep() {
  const form = useForm({
    draft: "first metric",
    initial: { name: "Tasks", units: "tasks" },
    words: { units: /units?/i, name: /name|key/i },
    submit: async ({ name, units }) => {
      await createOne("/admin/v1/metrics", { name, key: keyOf({ name }), unitType: "number", units });
    },
  });
  return (
    <Form form={form} submitLabel="Count this">
      <div class="field-row">
        <TextField form={form} name="name" label="Metric" hint={<>Events name it <code>{keyFrom(form.values.name) || "…"}</code>.</>} />
        <TextField form={form} name="units" label="Units" hint="What one is called, in the plural." />
      </div>
    </Form>
  );
}

function SystemStep() {
  const form = useForm({
    draft: "first system",
    initial: { name: "XP" },
    words: { name: /./ },
    submit: async ({ name }) => {
      await createOne("/admin/v1/points", {
        name, key: keyOf({ name }),
        levels: [{ name: "Bronze", key: "bronze", points: 20 }, { name: "Silver", key: "silver", points: 100 }, { name: "Gold", key: "gold", points: 500 }],
      });
    },
  });
  return (
    <Form form={form} submitLabel="Create it">
      <TextField form={form} name="name" label="Points system" hint="It starts with three levels, Bronze from 20 points, Silver from 100 and Gold from 500, which you can change." />
    </Form>
  );
}

function RuleStep({ metric, system }: { readonly metric: MetricRow; readonly system: SystemRow }) {
  const form = useForm({
    draft: "first trigger",
    initial: { points: "10", threshold: "1" },
    words: { threshold: /threshold/i, points: /points/i },
    submit: async ({ points, threshold }) => {
      await createOne(`/admin/v1/points/${system.id}/triggers`, {
        type: "metric", metricId: metric.id, metricThreshold: asNumber(threshold), points: asNumber(points), status: "inactive",
      });
    },
  });
  const { points, threshold } = form.values;
  return (
    <>
      <p class="sentence" aria-live="polite">
        {triggerSentence({ type: "metric", points: asNumber(points), metric, metricThreshold: threshold, userAttributes: {}, eventAttributes: {} })}
      </p>
      <Form form={form} submitLabel="Add the trigger">
        <div class="field-row">
          <TextField form={form} name="points" label="Points" isNumber />
          <TextField form={form} name="threshold" label={`For every so many ${metric.units === "" ? `of ${metric.name}` : metric.units}`} isNumber />
        </div>
      </Form>
    </>
  );
}
