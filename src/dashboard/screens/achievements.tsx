import { useState } from "preact/hooks";
import { call, createOne, deleteOne, updateOne } from "../api.ts";
import { latestOf, useReading } from "../data.ts";
import { count, figure, percent } from "../format.ts";
import { useAchievements, useAttributes, useMetrics } from "../reads.ts";
import type { AchievementFigures, AchievementRow } from "../records.ts";
import { Link } from "../router.tsx";
import { achievementSentence } from "../sentences.ts";
import { ActionButton, Confirm, Dialog } from "../ui/dialog.tsx";
import { asNumber, Form, keyFrom, keyOf, orNull, PairsField, SelectField, TextAreaField, TextField, useForm } from "../ui/form.tsx";
import { Empty, Page, Read, Status } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";
import { attributeValues, filterOf, pairsOf } from "./points_system/trigger_form.tsx";

const path = "/admin/v1/achievements";
const everyMs = 15_000;

/** What users can achieve, once each. */
export function Achievements() {
  const reading = useAchievements();
  const figures = useReading(() => call<AchievementFigures[]>("GET", "/v1/achievements"), ["figures"], everyMs);
  const [open, setOpen] = useState<AchievementRow | "new">();
  const [archiving, setArchiving] = useState<AchievementRow>();
  const add = (
    <button type="button" class="button primary" onClick={() => {
      setOpen("new");
    }}>Add an achievement</button>
  );
  return (
    <Page title="Achievements" lead="What a user can do once and keep. A points trigger can pay for it." actions={add}>
      <Read reading={reading}>
        {(achievements) => achievements.length === 0 ? (
          <Empty title="Nothing to achieve yet.">Start with one that everybody can reach: the first task, the first week.</Empty>
        ) : (
          <Table
            caption="Achievements"
            rows={achievements}
            keyOf={({ id }) => id}
            columns={[
              { head: "Name", isName: true, cell: ({ name, badgeUrl }) => <>{badgeUrl !== null && <img class="badge" src={badgeUrl} alt="" />}{name}</> },
              { head: "Completed", cell: (row) => achievementSentence(wordsOf(row, achievements)) },
              {
                head: "Users",
                isFigure: true,
                cell: ({ id }) => {
                  const found = figures.data?.find((figure) => figure.id === id);
                  return found === undefined ? <span class="muted">–</span> : `${figure(found.completions)} (${percent(found.rarity)})`;
                },
              },
              { head: "Status", cell: ({ status }) => <Status value={status} /> },
              {
                head: "Actions",
                isAction: true,
                cell: (row) => (
                  <>
                    <ActionButton
                      class={row.status === "active" ? "button small" : "button small primary"}
                      label={`${row.status === "active" ? "Deactivate" : "Activate"} ${row.name}`}
                      run={async () => {
                        await updateOne(path, { id: row.id, status: row.status === "active" ? "inactive" : "active" });
                      }}
                    >
                      {row.status === "active" ? "Deactivate" : "Activate"}
                    </ActionButton>
                    <button type="button" class="button small" aria-label={`Edit ${row.name}`} onClick={() => {
                      setOpen(row);
                    }}>Edit</button>
                    <button type="button" class="button small quiet" aria-label={`Archive ${row.name}`} onClick={() => {
                      setArchiving(row);
                    }}>Archive</button>
                  </>
                ),
              },
            ]}
          />
        )}
      </Read>
      {open !== undefined && <AchievementForm achievement={latestOf(open, reading.data)} all={reading.data ?? []} onClose={() => {
        setOpen(undefined);
      }} />}
      {archiving !== undefined && (
        <Confirm title={`Archive ${archiving.name}?`} action="Archive" run={() => deleteOne(path, archiving.id)} onClose={() => {
          setArchiving(undefined);
        }}>
          <p>Nobody can complete it any more, and it is gone for callers. Points that it paid stay.</p>
        </Confirm>
      )}
    </Page>
  );
}

const wordsOf = (row: AchievementRow, all: readonly AchievementRow[]) => ({
  ...row,
  metric: row.metric ?? undefined,
  prerequisites: row.prerequisiteIds.map((id) => all.find((other) => other.id === id)?.name ?? "…"),
});

const kinds = [
  { value: "metric", label: "a metric reaches a total" },
  { value: "streak", label: "a streak reaches a length" },
  { value: "api", label: "your app says so, by a call" },
  { value: "achievement", label: "other achievements are completed" },
  { value: "anniversary", label: "years have passed since sign-up" },
] as const;

function AchievementForm({ achievement, all, onClose }: {
  readonly achievement: AchievementRow | undefined;
  readonly all: readonly AchievementRow[];
  readonly onClose: () => void;
}) {
  const metrics = useMetrics().data ?? [];
  const attributes = useAttributes().data ?? [];
  const form = useForm({
    draft: `achievement ${achievement?.id ?? ""}`,
    initial: {
      name: achievement?.name ?? "",
      description: achievement?.description ?? "",
      badgeUrl: achievement?.badgeUrl ?? "",
      kind: (achievement?.kind ?? "metric"),
      key: achievement?.key ?? "",
      metricId: achievement?.metricId ?? "",
      metricValue: achievement?.metricValue ?? "10",
      streakLength: String(achievement?.streakLength ?? 7),
      years: String(achievement?.years ?? 1),
      prerequisiteIds: achievement?.prerequisiteIds ?? ([] as readonly string[]),
      userAttributes: pairsOf(achievement?.userAttributes ?? {}),
      eventAttributes: pairsOf(achievement?.eventAttributes ?? {}),
    },
    version: achievement?.updatedAt,
    words: {
      metricValue: /metricValue|value|total/i, metricId: /metric/i, streakLength: /streak|length/i, years: /years/i, key: /\bkey\b/i,
      eventAttributes: /event.?attribute/i, userAttributes: /attribute/i, prerequisiteIds: /achievementIds|prerequisite|circle/i,
      badgeUrl: /badge|\burl\b/i, description: /description/i, name: /\bname\b/i,
    },
    submit: async (values, { version }) => {
      const url = orNull(values.badgeUrl);
      const item = {
        name: values.name,
        description: orNull(values.description),
        badge: url === null ? null : { url },
        trigger: values.kind,
        userAttributes: attributeValues(values.userAttributes, attributes, "user"),
        ...(values.kind === "metric" ? {
          metricId: metricId ?? null, metricValue: asNumber(values.metricValue),
          eventAttributes: attributeValues(values.eventAttributes, attributes, "event"),
        } : {}),
        ...(values.kind === "streak" ? { streakLength: asNumber(values.streakLength) } : {}),
        ...(values.kind === "anniversary" ? { anniversaryYears: asNumber(values.years) } : {}),
        ...(values.kind === "achievement" ? { achievementIds: values.prerequisiteIds } : {}),
        ...(values.kind === "api" ? { key: keyOf(values) } : {}),
      };
      if (achievement === undefined) await createOne(path, { ...item, status: "inactive" });
      else await updateOne(path, { id: achievement.id, ...item, unchangedSince: version });
      onClose();
    },
  });
  const { values } = form;
  const metricId = values.metricId === "" ? metrics[0]?.id : values.metricId;
  const keysOf = (type: "user" | "event") => attributes.filter((attribute) => attribute.type === type).map(({ key, name }) => ({ value: key, label: name }));
  const others = all.filter(({ id }) => id !== achievement?.id);
  return (
    <Dialog title={achievement === undefined ? "Add an achievement" : `Edit ${achievement.name}`} onClose={onClose}>
      <p class="sentence" aria-live="polite">
        {achievementSentence({
          ...values,
          metric: metrics.find(({ id }) => id === metricId),
          prerequisites: values.prerequisiteIds.map((id) => others.find((other) => other.id === id)?.name ?? "…"),
          userAttributes: filterOf(values.userAttributes),
          eventAttributes: values.kind === "metric" ? filterOf(values.eventAttributes) : {},
        })}
      </p>
      <Form form={form} submitLabel={achievement === undefined ? "Add, inactive for now" : "Save"} onCancel={onClose}>
        <TextField form={form} name="name" label="Name" placeholder="First ten tasks" />
        <SelectField form={form} name="kind" label="Completed when" options={kinds} />
        {values.kind === "metric" && (metrics.length === 0 ? <p class="hint">There is no metric yet: <Link href="/settings/metrics">add one first</Link>.</p> : (
          <div class="field-row">
            <SelectField form={form} name="metricId" label="Metric" options={metrics.map(({ id, name }) => ({ value: id, label: name }))} />
            <TextField form={form} name="metricValue" label="Reaches" isNumber />
          </div>
        ))}
        {values.kind === "streak" && <TextField form={form} name="streakLength" label="Length" isNumber hint="In the streak's own periods: days, weeks or months." />}
        {values.kind === "anniversary" && <TextField form={form} name="years" label="Years" isNumber hint={`${count(values.years, "year")} after the user's sign-up date.`} />}
        {values.kind === "api" && <TextField form={form} name="key" label="Key" placeholder={keyFrom(values.name)} hint={<>Calls name it: <code>POST /v1/achievements/{values.key === "" ? keyFrom(values.name) || "…" : values.key}/complete</code></>} />}
        {values.kind === "achievement" && (
          <fieldset class="field">
            <legend>All of these</legend>
            {others.length === 0 && <p class="hint">There are no other achievements yet.</p>}
            {others.map(({ id, name }) => (
              <label key={id} class="choice">
                <input type="checkbox" checked={values.prerequisiteIds.includes(id)} onChange={(event) => {
                  form.set({ prerequisiteIds: event.currentTarget.checked ? [...values.prerequisiteIds, id] : values.prerequisiteIds.filter((other) => other !== id) });
                }} />
                {name}
              </label>
            ))}
            {form.faultOf("prerequisiteIds") !== undefined && <p class="fault" role="alert">{form.faultOf("prerequisiteIds")}</p>}
          </fieldset>
        )}
        <TextAreaField form={form} name="description" label="Description" rows={2} />
        <TextField form={form} name="badgeUrl" label="Badge" type="url" placeholder="https://…" hint="An image's address; may stay empty." />
        <PairsField form={form} name="userAttributes" label="Only users with" keys={keysOf("user")} missing={<>Everybody. To choose, declare <Link href="/attributes">user attributes</Link>.</>} />
        {values.kind === "metric" && (
          <PairsField form={form} name="eventAttributes" label="Only events with" keys={keysOf("event")} missing={<>Every event. To choose, declare <Link href="/attributes">event attributes</Link>.</>} />
        )}
        <p class="hint">Activated, it is completed silently for users who qualify already.</p>
      </Form>
    </Dialog>
  );
}
