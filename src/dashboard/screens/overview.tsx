import { useEffect, useState } from "preact/hooks";
import { ask, call } from "../api.ts";
import { useReading } from "../data.ts";
import * as documents from "../documents.ts";
import { ago, count, figure } from "../format.ts";
import { SendEvent } from "../parts/send_event.tsx";
import { useMetrics, useSystems } from "../reads.ts";
import type { PointsSummary, SystemRow } from "../records.ts";
import { addressOf, Link } from "../router.tsx";
import { Bars } from "../ui/bars.tsx";
import { Empty, Page, Read, Section } from "../ui/page.tsx";
import { FirstSteps } from "./overview/first_steps.tsx";

interface RecentEvents {
  /** Whether there are any, however old. */
  readonly metricEvents: { readonly nodes: readonly { readonly id: string }[] };
  readonly latestEvents: { readonly nodes: readonly { readonly id: string; readonly metricKey: string; readonly userId: string; readonly value: string; readonly occurredAt: string }[] };
}

const everyMs = 5_000;

/** Where one starts: the first steps until they are taken, then what happens now. */
export function Overview() {
  const metrics = useMetrics();
  const systems = useSystems();
  const events = useReading(() => ask<RecentEvents>(documents.recentEvents), ["recent"], everyMs);
  const hasEvents = events.data?.metricEvents.nodes.length !== 0;
  const isKnown = metrics.data !== undefined && systems.data !== undefined && events.data !== undefined;
  const hasActive = systems.data?.some(({ triggers }) => triggers.nodes.some(({ status }) => status === "active")) === true;
  const isNew = isKnown && (metrics.data.length === 0 || systems.data.length === 0 || !hasActive || !hasEvents);
  // The last step makes nothing new any more: who is led there stays until told to go on, and reads what came back.
  const [isLed, setIsLed] = useState(false);
  useEffect(() => {
    if (isNew) setIsLed(true);
  }, [isNew]);
  const showsSteps = isNew || isLed;
  return (
    <Page title={showsSteps ? "Set up your first points" : "Overview"} lead={showsSteps ? "Four small steps, the last of them a real event." : "What happens now, in this tenant."}>
      <Read reading={metrics}>{() => null}</Read>
      <Read reading={systems}>{() => null}</Read>
      {isKnown && showsSteps && (
        <FirstSteps
          metrics={metrics.data}
          systems={systems.data}
          hasEvents={hasEvents}
          isOver={!isNew}
          onLeave={() => {
            setIsLed(false);
          }}
        />
      )}
      {isKnown && !showsSteps && (
        <>
          <div class="cards">{systems.data.map((system) => <SystemCard key={system.id} system={system} />)}</div>
          <div class="columns">
            <Section title="Latest events" lead={<span class="live">live</span>}>
              <Read reading={events}>
                {({ latestEvents: { nodes } }) => nodes.length === 0 ? <Empty title="Nothing came in the last 31 days.">Events appear here as they come.</Empty> : (
                  <ol class="feed">
                    {nodes.map(({ id, metricKey, userId, value, occurredAt }) => (
                      <li key={id}>
                        <Link href={addressOf("users", userId)}>{userId}</Link> <span>{figure(value)} × <code>{metricKey}</code></span> <time dateTime={occurredAt}>{ago(occurredAt)}</time>
                      </li>
                    ))}
                  </ol>
                )}
              </Read>
            </Section>
            <Section title="Send an event" lead="A real one, for any user.">
              <div class="card"><SendEvent /></div>
            </Section>
          </div>
        </>
      )}
    </Page>
  );
}

function SystemCard({ system }: { readonly system: SystemRow }) {
  const summary = useReading(() => call<PointsSummary>("GET", `/v1/points/${encodeURIComponent(system.key)}/summary`), ["summary", system.key], 15_000);
  const active = system.triggers.nodes.filter(({ status }) => status === "active").length;
  const users = summary.data?.reduce((sum, range) => sum + range.users, 0);
  const earning = summary.data?.slice(1).reduce((sum, range) => sum + range.users, 0);
  return (
    <article class="card system-card">
      <h2><Link href={addressOf("systems", system.key)}>{system.name}</Link></h2>
      <p class="muted">{active === 0 ? "No active trigger: it pays for nothing." : `${count(active, "active trigger")}, ${count(system.levels.nodes.length, "level")}${system.maxPoints === null ? "" : `, cap ${figure(system.maxPoints)}`}`}</p>
      <Read reading={summary}>
        {(ranges) => (
          <>
            <p class="big-figure">{figure(earning ?? 0)} <small>of {count(users ?? 0, "user")} have points</small></p>
            <Bars
              caption={`Users of ${system.name} by points`}
              head="Points"
              valueHead="Users"
              rows={ranges.filter(({ users: some }, index) => some > 0 || index === 0).slice(0, 6).map(({ from, to, users: some }) => ({ label: from === to ? figure(from) : `${figure(from)}–${figure(to)}`, value: some }))}
            />
          </>
        )}
      </Read>
    </article>
  );
}
