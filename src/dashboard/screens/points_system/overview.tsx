import { ApiError, call } from "../../api.ts";
import { useReading } from "../../data.ts";
import { count, figure } from "../../format.ts";
import type { LevelSummary, PointsSummary, System } from "../../records.ts";
import { addressOf, Link } from "../../router.tsx";
import { triggerSentence } from "../../sentences.ts";
import { Bars } from "../../ui/bars.tsx";
import { Empty, Read, Section } from "../../ui/page.tsx";

/** Counting all users anew every so often shows life without asking much of the database. */
const everyMs = 15_000;

/** Where a system's users stand, and what it does now. */
export function SystemOverview({ system }: { readonly system: System }) {
  const path = `/v1/points/${encodeURIComponent(system.key)}`;
  const summary = useReading(() => call<PointsSummary>("GET", `${path}/summary`), ["summary", system.key], everyMs);
  const levels = useReading(async () => {
    try {
      return await call<LevelSummary>("GET", `${path}/level-summary`);
    } catch (error) {
      // A system without levels has no summary of them.
      if (error instanceof ApiError && error.status === 422) return [];
      throw error;
    }
  }, ["levels", system.key], everyMs);
  const active = system.triggers.nodes.filter(({ status }) => status === "active");
  return (
    <>
      <Section title="What it does now">
        {active.length === 0 ? (
          <Empty title="Nothing: no trigger is active.">
            <Link href={addressOf("systems", system.key, "triggers")}>{system.triggers.nodes.length === 0 ? "Add a trigger" : "Activate a trigger"}</Link>, and events start to pay.
          </Empty>
        ) : (
          <ul class="rules">
            {active.map((trigger) => (
              <li key={trigger.id}>{triggerSentence({ ...trigger, metric: trigger.metric ?? undefined, achievementName: trigger.achievement?.name })}</li>
            ))}
            {system.maxPoints !== null && <li>Nobody has more than {count(system.maxPoints, "point")}.</li>}
          </ul>
        )}
      </Section>
      <div class="columns">
        <Section title="Users by points">
          <Read reading={summary}>
            {(ranges) => (
              <Bars
                caption={`Users of ${system.name} by points`}
                head="Points"
                valueHead="Users"
                rows={ranges.map(({ from, to, users }) => ({ label: from === to ? figure(from) : `${figure(from)}–${figure(to)}`, value: users }))}
              />
            )}
          </Read>
        </Section>
        <Section title="Users by level">
          <Read reading={levels}>
            {(rows) => rows.length === 0 ? (
              <Empty title="No levels yet."><Link href={addressOf("systems", system.key, "levels")}>Add levels</Link> to give totals a name.</Empty>
            ) : (
              <Bars caption={`Users of ${system.name} by level`} head="Level" valueHead="Users" rows={rows.map(({ level, users }) => ({ label: level.name, value: users }))} />
            )}
          </Read>
        </Section>
      </div>
    </>
  );
}
