import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { call, send } from "../api.ts";
import { count, figure, signed } from "../format.ts";
import { useAttributes, useMetrics } from "../reads.ts";
import type { EventAnswer, UserAwards } from "../records.ts";
import { addressOf, Link } from "../router.tsx";
import { filterOf } from "../screens/points_system/trigger_form.tsx";
import { Form, orNull, type Pair, PairsField, SelectField, TextField, useForm } from "../ui/form.tsx";

interface Outcome {
  readonly userId: string;
  readonly answer: EventAnswer;
  /** Why each award is what it is, by system. */
  readonly sentences: Readonly<Record<string, readonly string[]>>;
}

/** Sends a real event, and says what the answer means. With `userId` for that user, else for whoever is typed. */
export function SendEvent({ userId, suggestedUser = "", onSent }: {
  readonly userId?: string;
  readonly suggestedUser?: string;
  readonly onSent?: () => void;
}) {
  const metrics = useMetrics().data ?? [];
  const attributes = (useAttributes().data ?? []).filter(({ type }) => type === "event");
  const [outcome, setOutcome] = useState<Outcome>();
  // One key until an answer came: an event that was sent twice, because the first answer got lost, counts once.
  const idempotencyKey = useRef(newKey());
  const form = useForm({
    draft: `event ${userId ?? ""}`,
    initial: { user: userId ?? suggestedUser, metric: "", value: "1", attributes: [] as readonly Pair[] },
    words: { metric: /metric/i, value: /value|number|decimal/i, attributes: /attribute/i, user: /\buser\b/i },
    submit: async (values) => {
      const user = userId ?? values.user;
      const answer = await send("POST", `/v1/metrics/${encodeURIComponent(metricKey)}/event`, {
        // As it was typed: a number of JavaScript's would lose digits.
        user: { id: user }, value: orNull(values.value), attributes: filterOf(values.attributes),
      }, { "Idempotency-Key": idempotencyKey.current }) as EventAnswer;
      idempotencyKey.current = newKey();
      setOutcome({ userId: user, answer, sentences: await explain(user, answer) });
      onSent?.();
    },
  });
  const { values } = form;
  const metricKey = values.metric === "" ? metrics[0]?.key ?? "" : values.metric;
  if (metrics.length === 0) return <p class="hint">There is no metric to send an event to: <Link href="/settings/metrics">add one first</Link>.</p>;
  return (
    <div class="send-event">
      <Form form={form} submitLabel="Send the event">
        <div class="field-row">
          {userId === undefined && <TextField form={form} name="user" label="User ID" />}
          <SelectField form={form} name="metric" label="Metric" options={metrics.map(({ key, name }) => ({ value: key, label: name }))} />
          <TextField form={form} name="value" label="Value" isNumber />
        </div>
        {attributes.length > 0 && <PairsField form={form} name="attributes" label="Event attributes" add="Add an attribute" keys={attributes.map(({ key, name }) => ({ value: key, label: name }))} missing="" />}
      </Form>
      <div aria-live="polite">{outcome !== undefined && <Explained outcome={outcome} metricName={metrics.find(({ id }) => id === outcome.answer.metricId)?.name ?? ""} />}</div>
    </div>
  );
}

/** What an event's answer says, in sentences. */
function Explained({ outcome: { userId, answer, sentences }, metricName }: { readonly outcome: Outcome; readonly metricName: string }) {
  const systems = Object.entries(answer.points);
  return (
    <div class="answer">
      <h3>The answer</h3>
      <ul>
        <Item>{metricName}: {userId} now has a total of {figure(answer.total)}.{answer.idempotentReplayed && " It had been counted before: nothing changed."}</Item>
        {systems.map(([key, points]) => (
          <Item key={key}>
            <b>{signed(points.added)} {points.name}</b>, now {count(points.total, "point")}.
            {points.level !== undefined && <> <span class="level-change">{points.level === null ? "Below all levels now." : `Level reached: ${points.level.name}.`}</span></>}
            {(sentences[key] ?? []).map((sentence) => <span class="why" key={sentence}>{sentence}</span>)}
          </Item>
        ))}
        {systems.length === 0 && <Item>No points this time: no active trigger reached its next step.</Item>}
        {answer.achievements.map(({ id, name }) => <Item key={id}>Achievement completed: <b>{name}</b>.</Item>)}
        {answer.currentStreak.extended && <Item>The streak is now {answer.currentStreak.length} long.</Item>}
      </ul>
      <p><Link href={addressOf("users", userId)}>Everything about {userId}</Link></p>
    </div>
  );
}

const Item = ({ children }: { readonly children: ComponentChildren }) => <li>{children}</li>;

/** The ledger's own words for each award of an answer. */
async function explain(userId: string, answer: EventAnswer): Promise<Record<string, readonly string[]>> {
  const pairs = await Promise.all(Object.entries(answer.points).map(async ([key, { awards }]) => {
    const ids = new Set(awards.map(({ id }) => id));
    const found = await call<UserAwards>("GET", `/v1/users/${encodeURIComponent(userId)}/points/${encodeURIComponent(key)}/awards?limit=100`);
    return [key, found.awards.filter(({ id }) => ids.has(id)).map(({ explanation }) => explanation.sentence).reverse()] as const;
  }));
  return Object.fromEntries(pairs);
}

/** Not randomUUID(), which browsers keep from pages on plain HTTP. */
const newKey = (): string => `dashboard-${[...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
