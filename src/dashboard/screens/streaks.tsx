import { useState } from "preact/hooks";
import type { z } from "zod";
import type { streakSettingsAnswer } from "../../rest/answers.ts";
import { call } from "../api.ts";
import { useReading } from "../data.ts";
import { figure } from "../format.ts";
import { useMetrics } from "../reads.ts";
import type { MetricRow } from "../records.ts";
import { addressOf, Link } from "../router.tsx";
import { asNumber, CheckField, Form, SelectField, TextField, useForm } from "../ui/form.tsx";
import { Empty, Page, Read, Section } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";

type Settings = z.output<typeof streakSettingsAnswer>;

interface Ranked {
  readonly userId: string;
  readonly streakLength: number;
}

/** How streaks are judged, and who has the longest. */
export function Streaks() {
  const settings = useReading(() => call<Settings>("GET", "/admin/v1/streaks/settings"), ["streak settings"]);
  const metrics = useMetrics();
  const longest = useReading(() => call<Ranked[]>("GET", "/v1/streaks/rankings?limit=10&type=active"), ["streak rankings"], 15_000);
  return (
    <Page title="Streaks" lead="How many days, weeks or months in a row a user did enough, by the user's own calendar.">
      <Read reading={settings}>
        {(found) => <Read reading={metrics}>{(all) => <SettingsForm settings={found} metrics={all} />}</Read>}
      </Read>
      <Section title="Longest now">
        <Read reading={longest}>
          {(rows) => rows.length === 0 ? <Empty title="No streak yet.">One begins with the first period in which a user does enough.</Empty> : (
            <Table
              caption="Longest active streaks"
              rows={rows}
              keyOf={({ userId }) => userId}
              columns={[
                { head: "User", isName: true, cell: ({ userId }) => <Link href={addressOf("users", userId)}>{userId}</Link> },
                { head: "Length", isFigure: true, cell: ({ streakLength }) => figure(streakLength) },
              ]}
            />
          )}
        </Read>
      </Section>
    </Page>
  );
}

const periods = { daily: "day", weekly: "week", monthly: "month" } as const;

function SettingsForm({ settings, metrics }: { readonly settings: Settings; readonly metrics: readonly MetricRow[] }) {
  const [isSaved, setIsSaved] = useState(false);
  const form = useForm({
    draft: "streak settings",
    initial: {
      frequency: settings.frequency,
      evaluationMode: settings.evaluationMode,
      customizationEnabled: settings.customizationEnabled,
      thresholds: Object.fromEntries(settings.metrics.map(({ key, threshold }) => [key, String(threshold)])),
      hasFreezes: settings.freezes !== null,
      startCount: String(settings.freezes?.startCount ?? 1),
      maxCount: String(settings.freezes?.maxCount ?? 3),
      autoEarnInterval: String(settings.freezes?.autoEarnInterval ?? ""),
      autoEarnAmount: String(settings.freezes?.autoEarnAmount ?? ""),
    },
    version: settings.updated,
    words: {
      startCount: /startCount/, maxCount: /maxCount/, autoEarnInterval: /autoEarnInterval/, autoEarnAmount: /autoEarnAmount/,
      thresholds: /metric|threshold/i, frequency: /frequency/i,
    },
    submit: async (values, { version }) => {
      setIsSaved(false);
      const chosen = Object.entries(values.thresholds).map(([key, threshold]) => ({ key, threshold: asNumber(threshold) }));
      const { updated } = await call<Settings>("PATCH", "/admin/v1/streaks/settings", {
        unchangedSince: version,
        frequency: values.frequency,
        evaluationMode: values.evaluationMode,
        customizationEnabled: values.customizationEnabled,
        ...(chosen.length === 0 ? {} : { metrics: chosen }),
        freezes: values.hasFreezes ? {
          startCount: asNumber(values.startCount), maxCount: asNumber(values.maxCount),
          autoEarnInterval: asNumber(values.autoEarnInterval), autoEarnAmount: asNumber(values.autoEarnAmount),
        } : null,
      });
      setIsSaved(true);
      return updated;
    },
  });
  const { values } = form;
  const chosen = Object.entries(values.thresholds);
  const period = periods[values.frequency];
  const conditions = chosen.map(([key, threshold]) => `${threshold} of ${metrics.find((metric) => metric.key === key)?.name ?? key}`);
  const enough = chosen.length === 0 ? "any event with a value above 0" : conditions.join(values.evaluationMode === "AND" ? " and " : " or ");
  return (
    <Section title="Settings" lead="Changes hold for what happens from now on.">
      <div class="card narrow">
        <p class="sentence" aria-live="polite">A {period} counts with {enough}.{values.hasFreezes ? ` A freeze bridges a missed ${period}.` : ` A missed ${period} ends the streak.`}</p>
        <Form form={form} submitLabel="Save">
          <SelectField form={form} name="frequency" label="Counted in" options={[{ value: "daily", label: "days" }, { value: "weekly", label: "weeks" }, { value: "monthly", label: "months" }]} />
          <fieldset class="field">
            <legend>What is enough</legend>
            {metrics.map(({ key, name }) => (
              <div class="field inline" key={key}>
                <label class="choice">
                  <input type="checkbox" checked={key in values.thresholds} onChange={(event) => {
                    const others = Object.fromEntries(Object.entries(values.thresholds).filter(([other]) => other !== key));
                    form.set({ thresholds: event.currentTarget.checked ? { ...others, [key]: "1" } : others });
                  }} />
                  {name}
                </label>
                {key in values.thresholds && (
                  <input class="number" inputMode="numeric" aria-label={`${name}, at least`} value={values.thresholds[key] ?? ""} onInput={(event) => {
                    form.set({ thresholds: { ...values.thresholds, [key]: event.currentTarget.value } });
                  }} />
                )}
              </div>
            ))}
            {form.faultOf("thresholds") !== undefined && <p class="fault" role="alert">{form.faultOf("thresholds")}</p>}
            <p class="hint">{chosen.length === 0 ? "None chosen: any event with a value above 0." : `The least a user has to do in one ${period}.`}</p>
          </fieldset>
          {chosen.length > 1 && <SelectField form={form} name="evaluationMode" label="Of these" options={[{ value: "AND", label: "all" }, { value: "OR", label: "any one" }]} />}
          <CheckField form={form} name="customizationEnabled" label="Users may choose for themselves" hint="By their preferences." />
          <CheckField form={form} name="hasFreezes" label="Freezes" hint={`One is used up for each missed ${period}, and the streak lives on.`} />
          {values.hasFreezes && (
            <>
              <div class="field-row">
                <TextField form={form} name="startCount" label="At the start" isNumber />
                <TextField form={form} name="maxCount" label="At most" isNumber />
              </div>
              <div class="field-row">
                <TextField form={form} name="autoEarnInterval" label={`One earned every so many ${period}s`} isNumber hint="Empty: none." />
                <TextField form={form} name="autoEarnAmount" label="How many then" isNumber />
              </div>
            </>
          )}
          <p role="status" class="saved">{isSaved && !form.isDraft ? "Saved." : ""}</p>
        </Form>
      </div>
    </Section>
  );
}
