import { createOne, updateOne } from "../../api.ts";
import { useAchievements, useAttributes, useMetrics } from "../../reads.ts";
import type { AttributeRow, System, TriggerRow } from "../../records.ts";
import { Link } from "../../router.tsx";
import { type Filter, triggerSentence } from "../../sentences.ts";
import { EditPreview } from "../../preview/edit_preview.tsx";
import { Dialog } from "../../ui/dialog.tsx";
import { asNumber, CheckField, Form, type Pair, PairsField, SelectField, TextField, useForm } from "../../ui/form.tsx";

/** Kinds of triggers, as people choose among them. */
export const triggerTypes = [
  { value: "metric", short: "metric", label: "a metric grows" },
  { value: "achievement", short: "achievement", label: "an achievement is completed" },
  { value: "streak", short: "streak", label: "a streak gets longer" },
  { value: "time", short: "time", label: "time passes" },
  { value: "user_creation", short: "new user", label: "a user is first identified" },
] as const;

export const pairsOf = (filter: Filter): readonly Pair[] => Object.entries(filter).map(([key, value]) => ({ key, value }));
export const filterOf = (pairs: readonly Pair[]): Filter => Object.fromEntries(pairs.map(({ key, value }) => [key, value]));

/** A filter as the admin API takes it: by the attributes' IDs. */
export const attributeValues = (pairs: readonly Pair[], attributes: readonly AttributeRow[], type: AttributeRow["type"]) =>
  pairs.map(({ key, value }) => ({ attributeId: attributes.find((attribute) => attribute.type === type && attribute.key === key)?.id ?? key, attributeValue: value }));

/** Adds or changes a trigger, and says in a sentence what it will do. */
export function TriggerForm({ system, trigger, onClose }: {
  readonly system: System;
  readonly trigger: TriggerRow | undefined;
  readonly onClose: () => void;
}) {
  const metrics = useMetrics().data ?? [];
  const attributes = useAttributes().data ?? [];
  const achievements = useAchievements().data ?? [];
  const form = useForm({
    draft: `trigger ${system.id} ${trigger?.id ?? ""}`,
    initial: initialOf(trigger),
    version: trigger?.updatedAt,
    words: {
      metricThreshold: /threshold/i, timeInterval: /interval|every/i, streakLength: /streakLength|length/i, metricId: /metric/i,
      achievementId: /achievement/i, eventAttributes: /event.?attribute/i, userAttributes: /attribute/i,
      blockIfOutOfPoints: /block/i, points: /points/i,
    },
    submit: async (_values, seen) => {
      const path = `/admin/v1/points/${system.id}/triggers`;
      if (trigger === undefined) await createOne(path, { ...item, status: "inactive" });
      else await updateOne(path, { id: trigger.id, ...item, unchangedSince: seen.version });
      onClose();
    },
  });
  const { values } = form;
  const metricId = values.metricId === "" ? metrics[0]?.id : values.metricId;
  const achievementId = values.achievementId === "" ? achievements[0]?.id : values.achievementId;
  const metric = metrics.find(({ id }) => id === metricId);
  const item = itemOf({ ...values, metricId: metricId ?? "", achievementId: achievementId ?? "" }, attributes);
  const isDeduction = values.effect === "takes";
  const sentence = triggerSentence({
    ...values,
    points: pointsOf(values),
    metric,
    achievementName: achievements.find(({ id }) => id === achievementId)?.name,
    userAttributes: filterOf(values.userAttributes),
    eventAttributes: values.type === "metric" ? filterOf(values.eventAttributes) : {},
  });
  const keysOf = (type: AttributeRow["type"]) => attributes.filter((attribute) => attribute.type === type).map(({ key, name }) => ({ value: key, label: name }));
  return (
    <Dialog title={trigger === undefined ? `Add a trigger to ${system.name}` : "Edit the trigger"} onClose={onClose} aside={<EditPreview system={system} draft={{ triggers: [{ ...(trigger === undefined ? {} : { id: trigger.id }), ...item, status: "active" }] }} />}>
      <p class="sentence" aria-live="polite">{sentence}</p>
      <Form form={form} submitLabel={trigger === undefined ? "Add, inactive for now" : "Save"} onCancel={onClose}>
        <SelectField form={form} name="type" label="When" options={triggerTypes} />
        {values.type === "metric" && (
          metrics.length === 0
            ? <p class="hint">There is no metric yet: <Link href="/settings/metrics">add one first</Link>. What you typed stays here.</p>
            : (
              <div class="field-row" key="metric">
                <SelectField form={form} name="metricId" label="Metric" options={metrics.map(({ id, name }) => ({ value: id, label: name }))} />
                <TextField form={form} name="metricThreshold" label="For every" isNumber hint={metric === undefined || metric.units === "" ? "how many of it" : metric.units} />
              </div>
            )
        )}
        {values.type === "achievement" && (
          achievements.length === 0
            ? <p class="hint">There is no achievement yet: <Link href="/achievements">add one first</Link>. What you typed stays here.</p>
            : <SelectField form={form} name="achievementId" label="Achievement" options={achievements.map(({ id, name }) => ({ value: id, label: name }))} />
        )}
        {values.type === "streak" && <TextField form={form} name="streakLength" label="At every multiple of" isNumber hint="The streak's length, in its own periods: days, weeks or months." />}
        {values.type === "time" && (
          <div class="field-row" key="time">
            <TextField form={form} name="timeInterval" label="Every" isNumber />
            <SelectField form={form} name="timeUnit" label="Unit" options={[{ value: "hours", label: "hours" }, { value: "days", label: "days" }]} />
          </div>
        )}
        <div class="field-row" key="effect">
          <SelectField form={form} name="effect" label="It" options={[{ value: "awards", label: "awards" }, { value: "takes", label: "takes" }]} />
          <TextField form={form} name="points" label="Points" isNumber />
        </div>
        {isDeduction && (
          <CheckField form={form} name="blockIfOutOfPoints" label="Refuse events that would take a total below 0" hint="Otherwise the total stops at 0 and the event counts." />
        )}
        <PairsField
          form={form}
          name="userAttributes"
          label="Only users with"
          keys={keysOf("user")}
          missing={<>Everybody. To choose, declare <Link href="/attributes">user attributes</Link>.</>}
          hint={values.userAttributes.length === 0 ? "No condition: everybody." : "All conditions must hold."}
        />
        {values.type === "metric" && (
          <PairsField
            form={form}
            name="eventAttributes"
            label="Only events with"
            keys={keysOf("event")}
            missing={<>Every event. To choose, declare <Link href="/attributes">event attributes</Link>.</>}
            hint={values.eventAttributes.length === 0 ? "No condition: every event." : "Matching events are counted by themselves, from activation on."}
          />
        )}
      </Form>
    </Dialog>
  );
}

interface Values {
  readonly type: string;
  readonly effect: string;
  readonly points: string;
  readonly metricId: string;
  readonly metricThreshold: string;
  readonly achievementId: string;
  readonly streakLength: string;
  readonly timeUnit: string;
  readonly timeInterval: string;
  readonly blockIfOutOfPoints: boolean;
  readonly userAttributes: readonly Pair[];
  readonly eventAttributes: readonly Pair[];
}

function initialOf(trigger: TriggerRow | undefined): Values {
  const text = (value: number | null | undefined, otherwise: string): string => (value === null || value === undefined ? otherwise : String(value));
  return {
    type: trigger?.type ?? "metric",
    effect: (trigger?.points ?? 1) < 0 ? "takes" : "awards",
    points: trigger === undefined ? "10" : String(Math.abs(trigger.points)),
    metricId: trigger?.metricId ?? "",
    metricThreshold: text(trigger?.metricThreshold, "1"),
    achievementId: trigger?.achievementId ?? "",
    streakLength: text(trigger?.streakLength, "7"),
    timeUnit: trigger?.timeUnit ?? "days",
    timeInterval: text(trigger?.timeInterval, "1"),
    blockIfOutOfPoints: trigger?.blockIfOutOfPoints ?? false,
    userAttributes: pairsOf(trigger?.userAttributes ?? {}),
    eventAttributes: pairsOf(trigger?.eventAttributes ?? {}),
  };
}

const pointsOf = ({ effect, points }: Pick<Values, "effect" | "points">): number | string | null => {
  const given = asNumber(points);
  return typeof given === "number" && effect === "takes" ? -Math.abs(given) : given;
};

/** The trigger as the admin API takes it: what belongs to other kinds stays out. */
export function itemOf(values: Values, attributes: readonly AttributeRow[]): object {
  const common = {
    type: values.type,
    points: pointsOf(values),
    userAttributes: attributeValues(values.userAttributes, attributes, "user"),
    ...(values.effect === "takes" ? { blockIfOutOfPoints: values.blockIfOutOfPoints } : { blockIfOutOfPoints: false }),
  };
  switch (values.type) {
    case "metric":
      return {
        ...common,
        ...(values.metricId === "" ? {} : { metricId: values.metricId }),
        metricThreshold: asNumber(values.metricThreshold),
        eventAttributes: attributeValues(values.eventAttributes, attributes, "event"),
      };
    case "achievement":
      return { ...common, ...(values.achievementId === "" ? {} : { achievementId: values.achievementId }) };
    case "streak":
      return { ...common, streakLength: asNumber(values.streakLength) };
    case "time":
      return { ...common, timeUnit: values.timeUnit, timeInterval: asNumber(values.timeInterval) };
    default:
      return common;
  }
}
