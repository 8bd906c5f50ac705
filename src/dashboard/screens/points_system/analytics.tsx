import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { z } from "zod";
import type { breakdownAnswer, byUsersAnswer, earnedAnswer, firstDaysAnswer, insightsAnswer } from "../../../rest/admin/insight_answers.ts";
import { ApiError, call } from "../../api.ts";
import { useReading } from "../../data.ts";
import { count, day, figure, today } from "../../format.ts";
import { useAttributes } from "../../reads.ts";
import type { LevelSummary, System } from "../../records.ts";
import { addressOf, Link } from "../../router.tsx";
import { triggerSentence } from "../../sentences.ts";
import { keptUntilSignOut } from "../../session.ts";
import { createStore, type Store, useStore } from "../../stores.ts";
import { Bars } from "../../ui/bars.tsx";
import { TimeChart } from "../../ui/chart.tsx";
import { type Faults, Field } from "../../ui/form.tsx";
import { Empty, Read, Section } from "../../ui/page.tsx";

type Earned = z.output<typeof earnedAnswer>;
type Breakdown = z.output<typeof breakdownAnswer>;
type ByUsers = z.output<typeof byUsersAnswer>;
type FirstDays = z.output<typeof firstDaysAnswer>;

/** Which days, and whose. Days are UTC days, as those of the figures. */
interface Choice {
  readonly range: "7" | "30" | "90" | "custom";
  readonly from: string;
  readonly to: string;
  /** By attribute; users have to carry them all. */
  readonly attributes: Readonly<Record<string, string>>;
}

/** What was chosen, by system: it outlives a look at another screen. */
const choices = keptUntilSignOut<string, Store<Choice>>();

function choiceOf(system: System): Store<Choice> {
  const known = choices.get(system.id);
  if (known !== undefined) return known;
  const made = createStore<Choice>({ range: "30", from: daysBefore(today(), 29), to: today(), attributes: {} });
  choices.set(system.id, made);
  return made;
}

const dayMs = 86_400_000;
const daysBefore = (date: string, days: number): string => new Date(Date.parse(date) - days * dayMs).toISOString().slice(0, 10);
const lengthOf = (from: string, to: string): number => Math.round((Date.parse(to) - Date.parse(from)) / dayMs) + 1;

/** More days than these are charted week by week. */
const mostDaysByDay = 92;

/** What a system's users earned, from when to when and from what. */
export function SystemAnalytics({ system }: { readonly system: System }) {
  const store = choiceOf(system);
  const choice = useStore(store);
  const { from, to } = choice.range === "custom" ? choice : { from: daysBefore(today(), Number(choice.range) - 1), to: today() };
  const length = lengthOf(from, to);
  const wanted = Object.entries(choice.attributes).filter(([, value]) => value !== "");
  // As JSON, in which values may hold commas.
  const filter = wanted.length === 0 ? "" : JSON.stringify(Object.fromEntries(wanted));
  const read = <T,>(name: string, more = ""): Promise<T> =>
    call<T>("GET", `/admin/v1/points/${system.id}/analytics/${name}?${new URLSearchParams({ from, to, userAttributes: filter }).toString()}${more}`);
  const figures = useReading(async () => {
    const [earned, breakdown, users, firstDays, insights] = await Promise.all([
      read<Earned>("earned", `&unit=${length > mostDaysByDay ? "week" : "day"}`),
      read<Breakdown>("breakdown"),
      read<ByUsers>("users"),
      read<FirstDays>("first-days"),
      read<z.output<typeof insightsAnswer>>("insights"),
    ]);
    return { earned, breakdown, users, firstDays, insights };
  }, ["analytics", system.id, from, to, filter], refreshMs);
  const levels = useReading(async () => {
    try {
      return await call<LevelSummary>("GET", `/admin/v1/points/${system.id}/analytics/levels`);
    } catch (error) {
      // A system without levels has no summary of them.
      if (error instanceof ApiError && error.status === 422) return [];
      throw error;
    }
  }, ["levels", system.id]);
  const faults: Faults = {
    faultOf: (name) => (figures.field === name ? figures.fault : undefined),
    otherFault: () => (figures.field === undefined || !shownFields(choice).includes(figures.field) ? figures.fault : undefined),
  };
  return (
    <>
      <Section title="Analytics" lead={`From ${day(from)} to ${day(to)}, both included, by UTC days${wanted.length === 0 ? "" : `; only users with ${wanted.map(([key, value]) => `${key} = ${value}`).join(" and ")}`}.`}>
        <Filters choice={choice} set={store.set} faults={faults} />
      </Section>
      {(figures.fault === undefined || faults.otherFault() !== undefined) && <Read reading={figures}>
        {({ earned, breakdown, users, firstDays, insights }) => (
          <>
            <div class="cards analytics-cards">
              <Card title="Points earned" value={figure(earned.earned)} change={<Change percent={earned.changePercent} before={earned.before.earned} days={length} />}>
                <TimeChart
                  title="Points earned"
                  dates={earned.series.map(({ date }) => date)}
                  series={[
                    { label: "earned", values: earned.series.map((part) => part.earned) },
                    ...(earned.boosted > 0 ? [{ label: "of them with a boost", color: "gold" as const, isDashed: true, values: earned.series.map((part) => part.boosted) }] : []),
                    ...(earned.deducted > 0 ? [{ label: "deducted", color: "danger" as const, isDashed: true, values: earned.series.map((part) => part.deducted) }] : []),
                  ]}
                />
              </Card>
              <Card
                title="Most by one user"
                value={figure(users.most)}
                change={<Change percent={users.changePercent} before={users.before.most} days={length} />}
                note={users.mostUserId === null ? "Nobody earned anything." : <>by <Link href={addressOf("users", users.mostUserId)}>{users.mostUserId}</Link>; {figure(users.earners)} of {count(users.users, "user")} earned points, {figure(String(users.average ?? 0))} on average</>}
              >
                <Histogram caption="Users by points earned in this time" ranges={users.histogram} />
              </Card>
              <Card
                title="Average in the first 14 days"
                value={firstDays.average === null ? "–" : figure(String(firstDays.average))}
                change={<Change percent={firstDays.changePercent} before={firstDays.before.average} days={length} />}
                note={firstDays.users === 0 ? "Nobody joined in this time." : `of ${count(firstDays.users, "user")} who joined in this time, so far`}
              >
                <Histogram caption="Users who joined, by points earned in their first 14 days" ranges={firstDays.histogram} />
              </Card>
            </div>
            <Section title="In short">
              <ul class="rules insights">{insights.sentences.map((sentence) => <li key={sentence}>{sentence}</li>)}</ul>
            </Section>
            {breakdown.byType.length === 0 ? (
              <Section title="What it came from"><Empty title="Nothing was earned or deducted in this time.">Choose other days, or see what the <Link href={addressOf("systems", system.key, "triggers")}>triggers</Link> wait for.</Empty></Section>
            ) : (
              <div class="columns outcome">
                <Section title="By kind of trigger">
                  <Bars caption="Points earned by kind of trigger" head="Kind" valueHead="Points" rows={breakdown.byType.map((part) => ({ label: kinds[part.type], value: part.earned, note: noteOf(part) }))} />
                </Section>
                <Section title="By trigger">
                  <Bars caption="Points earned by trigger" head="Trigger" valueHead="Points" rows={breakdown.byTrigger.map((part) => ({ label: labelOf(system, part), value: part.earned, note: noteOf(part) }))} />
                </Section>
              </div>
            )}
          </>
        )}
      </Read>}
      <Section title="Users by level" lead="As they stand now, all of them.">
        <Read reading={levels}>
          {(rows) => rows.length === 0 ? (
            <Empty title="No levels yet."><Link href={addressOf("systems", system.key, "levels")}>Add levels</Link> to give totals a name.</Empty>
          ) : (
            <Bars caption={`Users of ${system.name} by level`} head="Level" valueHead="Users" rows={rows.map(({ level, users }) => ({ label: level.name, value: users }))} />
          )}
        </Read>
      </Section>
    </>
  );
}

/** Figures of a day that is still going on grow. */
const refreshMs = 30_000;

const ranges = [
  { value: "7", label: "Last 7 days" },
  { value: "30", label: "Last 30 days" },
  { value: "90", label: "Last 90 days" },
  { value: "custom", label: "Custom" },
] as const;

/** What of a request has a field on the page. */
const shownFields = (choice: Choice): readonly string[] =>
  [...(choice.range === "custom" ? ["from", "to"] : []), ...(Object.keys(choice.attributes).length > 0 ? ["userAttributes"] : [])];

function Filters({ choice, set, faults }: { readonly choice: Choice; readonly set: (next: Choice) => void; readonly faults: Faults }) {
  const attributes = (useAttributes().data ?? []).filter(({ type }) => type === "user");
  const keys = Object.keys(choice.attributes);
  const others = attributes.filter(({ key }) => !keys.includes(key));
  return (
    <div class="filters" role="group" aria-label="Days and users">
      <fieldset class="choices">
        <legend class="visually-hidden">Days</legend>
        {ranges.map(({ value, label }) => (
          <label key={value}>
            <input type="radio" name="range" value={value} checked={choice.range === value} onChange={() => {
              set({ ...choice, range: value });
            }} />
            <span>{label}</span>
          </label>
        ))}
      </fieldset>
      {choice.range === "custom" && (["from", "to"] as const).map((end) => (
        <Field key={end} form={faults} name={end} label={end === "from" ? "From" : "To"}>
          {(described) => (
            <input {...described} type="date" value={choice[end]} max={today()} onChange={(event) => {
              // A date that was only half typed is none yet.
              if (event.currentTarget.value !== "") set({ ...choice, [end]: event.currentTarget.value });
            }} />
          )}
        </Field>
      ))}
      {keys.map((key, index) => (
        <AttributeValue key={key} faults={faults} isLast={index === keys.length - 1} name={attributes.find((each) => each.key === key)?.name ?? key} value={choice.attributes[key] ?? ""} set={(value) => {
          set({ ...choice, attributes: { ...choice.attributes, [key]: value } });
        }} remove={() => {
          set({ ...choice, attributes: Object.fromEntries(Object.entries(choice.attributes).filter(([other]) => other !== key)) });
        }} />
      ))}
      {others.length > 0 && (
        <div class="field">
          <label for="analytics-attribute">{keys.length === 0 ? "Users with" : "and with"}</label>
          <select id="analytics-attribute" value="" onChange={(event) => {
            const key = event.currentTarget.value;
            // Shows its own first line again, whatever was taken.
            event.currentTarget.value = "";
            if (key !== "") set({ ...choice, attributes: { ...choice.attributes, [key]: "" } });
          }}>
            <option value="">{keys.length === 0 ? "anything" : "anything else"}</option>
            {others.map(({ key, name }) => <option key={key} value={key}>{name}</option>)}
          </select>
        </div>
      )}
    </div>
  );
}

/** Applied when it is left or Enter is pressed: half a value matches nobody. */
function AttributeValue({ name, faults, isLast, value, set, remove }: {
  readonly name: string;
  readonly faults: Faults;
  /** The server has one sentence for all of them; it stands beside the last. */
  readonly isLast: boolean;
  readonly value: string;
  readonly set: (next: string) => void;
  readonly remove: () => void;
}) {
  const [typed, setTyped] = useState(value);
  return (
    <Field form={faults} name={isLast ? "userAttributes" : ""} label={`${name} equal to`}>
      {(described) => (
        <span class="pair">
          <input {...described} autocomplete="off" spellcheck={false} value={typed}
            onInput={(event) => {
              setTyped(event.currentTarget.value);
            }}
            onChange={() => {
              set(typed.trim());
            }}
          />
          <button type="button" class="icon-button" aria-label={`Any ${name}`} onClick={remove}>×</button>
        </span>
      )}
    </Field>
  );
}

function Card({ title, value, change, note, children }: {
  readonly title: string;
  readonly value: string;
  readonly change: ComponentChildren;
  readonly note?: ComponentChildren;
  readonly children: ComponentChildren;
}) {
  return (
    <article class="card">
      <h3>{title}</h3>
      <p class="big-figure">{value}</p>
      {change}
      {note !== undefined && <p class="muted">{note}</p>}
      {children}
    </article>
  );
}

/** "12.5 % more than in the 30 days before (1,234)" */
function Change({ percent, before, days }: { readonly percent: number | null; readonly before: number | null; readonly days: number }) {
  const range = days === 1 ? "the day before" : `the ${figure(days)} days before`;
  if (percent === null) return <p class="change muted">nothing to compare with in {range}</p>;
  const was = figure(String(before ?? 0));
  if (percent === 0) return <p class="change muted">as in {range} ({was})</p>;
  return (
    <p class="change">
      <b class={percent > 0 ? "positive" : "negative"}><span aria-hidden="true">{percent > 0 ? "▲" : "▼"} </span>{figure(String(Math.abs(percent)))} % {percent > 0 ? "more" : "less"}</b> than in {range} ({was})
    </p>
  );
}

function Histogram({ caption, ranges: all }: { readonly caption: string; readonly ranges: ByUsers["histogram"] }) {
  const rows = all.slice(Math.max(0, all.findIndex(({ users }) => users > 0)));
  return (
    <>
      <p class="bars-title" aria-hidden="true">{caption}</p>
      <Bars caption={caption} head="Points" valueHead="Users" rows={rows.map(({ from, to, users }) => ({ label: from === to ? figure(from) : `${figure(from)}–${figure(to)}`, value: users }))} />
    </>
  );
}

const kinds = {
  metric: "Metrics", achievement: "Achievements", streak: "Streaks", time: "Time", user_creation: "New users", adjustment: "By hand",
} as const satisfies Record<Breakdown["byType"][number]["type"], string>;

/** "62.5 %", and what was taken. */
function noteOf({ share, deducted }: { readonly share: number | null; readonly deducted: number }): string {
  return [share === null || share === 0 ? "" : `${figure(String(Math.round(share * 1000) / 10))} %`, deducted === 0 ? "" : `−${figure(deducted)} deducted`].filter((part) => part !== "").join(", ");
}

function labelOf(system: System, { trigger, type }: Breakdown["byTrigger"][number]): string {
  if (trigger === null) return kinds[type];
  const saved = system.triggers.nodes.find(({ id }) => id === trigger.id);
  if (saved !== undefined) return triggerSentence({ ...saved, metric: saved.metric ?? undefined, achievementName: saved.achievement?.name });
  const pairs = (list: typeof trigger.userAttributes | undefined): Record<string, string> =>
    Object.fromEntries((list ?? []).map((pair) => [pair.key, pair.value]));
  const words = triggerSentence({
    type, points: trigger.points, metric: trigger.metricName === undefined ? undefined : { name: trigger.metricName, units: "" },
    metricThreshold: trigger.metricThreshold, achievementName: trigger.achievementName, streakLength: trigger.streakLengthThreshold,
    timeUnit: trigger.timeUnit === undefined ? undefined : `${trigger.timeUnit}s`, timeInterval: trigger.timeInterval,
    userAttributes: pairs(trigger.userAttributes), eventAttributes: pairs(trigger.eventAttributes),
  });
  return `${words} (no longer there)`;
}
