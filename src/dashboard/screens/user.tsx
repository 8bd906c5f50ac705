import { useState } from "preact/hooks";
import { ask, call } from "../api.ts";
import { useReading } from "../data.ts";
import * as documents from "../documents.ts";
import { figure, moment, percent } from "../format.ts";
import { useLiveBalances } from "../live.ts";
import { SendEvent } from "../parts/send_event.tsx";
import { useSystems } from "../reads.ts";
import type { User, UserAchievements, UserActivity } from "../records.ts";
import type { ScreenProps } from "../screens.ts";
import { conditions } from "../sentences.ts";
import { Empty, Page, Read, Section } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";
import { AdjustPoints, EraseUser, exportUser, ProfileForm } from "./user/actions.tsx";
import { Ledger } from "./user/ledger.tsx";

/** One user: points with their reasons, metrics, achievements, events. */
export function UserScreen({ id = "" }: ScreenProps) {
  const profile = useReading(() => call<User>("GET", `/v1/users/${encodeURIComponent(id)}`), ["user", id]);
  const [open, setOpen] = useState<"profile" | "adjust" | "erase">();
  const close = (): void => {
    setOpen(undefined);
  };
  const user = profile.data;
  return (
    <Page
      title={user?.name ?? id}
      lead={user === undefined ? undefined : <ProfileLine user={user} />}
      trail={[{ label: "Users", href: "/users" }]}
      actions={user === undefined ? undefined : (
        <>
          <button type="button" class="button" onClick={() => {
            setOpen("profile");
          }}>Edit</button>
          <button type="button" class="button" onClick={() => {
            setOpen("adjust");
          }}>Adjust points</button>
          <button type="button" class="button" onClick={() => {
            void exportUser(id);
          }}>Export</button>
          <button type="button" class="button danger" onClick={() => {
            setOpen("erase");
          }}>Erase</button>
        </>
      )}
    >
      <Read reading={profile}>
        {(found) => (
          <>
            <Points userId={id} />
            <Activity userId={id} />
            {open === "profile" && <ProfileForm user={found} onClose={close} />}
            {open === "adjust" && <AdjustPoints userId={id} onClose={close} />}
            {open === "erase" && <EraseUser userId={id} onClose={close} />}
          </>
        )}
      </Read>
    </Page>
  );
}

function ProfileLine({ user }: { readonly user: User }) {
  const parts = [user.id, user.email, user.tz ?? "UTC", conditions(user.attributes).replaceAll(" and ", ", ")].filter((part) => part !== null && part !== "");
  return <>{parts.join(" · ")}</>;
}

function Points({ userId }: { readonly userId: string }) {
  const systems = useSystems().data ?? [];
  const { balances, isLive } = useLiveBalances(userId);
  const [chosen, setChosen] = useState<string>();
  const shown = systems.map((system) => ({ system, balance: balances?.find(({ systemKey }) => systemKey === system.key) }));
  const current = chosen ?? shown.find(({ balance }) => balance !== undefined)?.system.key ?? systems[0]?.key;
  return (
    <Section title="Points" lead={isLive ? <span class="live">live</span> : "connecting …"}>
      {systems.length === 0 && <Empty title="There is no points system yet.">Create one to give points.</Empty>}
      <div class="totals" role="group" aria-label="Points systems">
        {shown.map(({ system, balance }) => (
          <button
            type="button"
            key={system.key}
            class="total"
            aria-pressed={system.key === current}
            onClick={() => {
              setChosen(system.key);
            }}
          >
            <span class="total-name">{system.name}</span>
            <span class="total-figure" data-testid={`total ${system.key}`}>{figure(balance?.total ?? 0)}</span>
            <span class="total-level">{balance?.level ?? (system.levels.nodes.length === 0 ? "" : "no level")}</span>
          </button>
        ))}
      </div>
      {current !== undefined && <Ledger userId={userId} systemKey={current} total={balances?.find(({ systemKey }) => systemKey === current)?.total ?? "0"} />}
    </Section>
  );
}

function Activity({ userId }: { readonly userId: string }) {
  const activity = useReading(async () => {
    const { user, events } = await ask<{ user: Omit<UserActivity, "events"> | null } & Pick<UserActivity, "events">>(documents.userEvents, { id: userId, text: userId });
    return user === null ? null : { ...user, events };
  }, ["activity", userId], 10_000);
  const achievements = useReading(() => call<UserAchievements>("GET", `/v1/users/${encodeURIComponent(userId)}/achievements?includeIncomplete=true`), ["user achievements", userId]);
  return (
    <>
      <Section title="Send an event" lead="A real one: it counts, and pays.">
        <div class="card"><SendEvent userId={userId} /></div>
      </Section>
      <div class="columns">
        <Section title="Metrics">
          <Read reading={activity}>
            {(found) => found === null || found.metrics.nodes.length === 0 ? <Empty title="Nothing counted yet.">Send an event.</Empty> : (
              <Table
                caption="Metrics of the user"
                rows={found.metrics.nodes}
                keyOf={({ metricKey }) => metricKey}
                columns={[
                  { head: "Metric", isName: true, cell: ({ metric, metricKey }) => metric?.name ?? metricKey },
                  { head: "Total", isFigure: true, cell: ({ total }) => figure(total) },
                  { head: "Peak", isFigure: true, cell: ({ peak }) => figure(peak) },
                ]}
              />
            )}
          </Read>
        </Section>
        <Section title="Achievements">
          <Read reading={achievements}>
            {(rows) => rows.length === 0 ? <Empty title="There are none to achieve.">Add one under Achievements.</Empty> : (
              <Table
                caption="Achievements of the user"
                rows={rows}
                keyOf={({ id }) => id}
                columns={[
                  { head: "Achievement", isName: true, cell: ({ name }) => name },
                  { head: "Completed", cell: ({ achievedAt }) => (achievedAt === null ? <span class="muted">not yet</span> : moment(achievedAt)) },
                  { head: "Rarity", isFigure: true, cell: ({ rarity }) => percent(rarity) },
                ]}
              />
            )}
          </Read>
        </Section>
      </div>
      <Section title="Latest events" lead="The last 20, as they came; dated when they occurred.">
        <Read reading={activity}>
          {(found) => found === null || found.events.nodes.length === 0 ? <Empty title="No events yet.">They appear here as they come.</Empty> : (
            <Table
              caption="Latest events of the user"
              rows={found.events.nodes}
              keyOf={({ id }) => id}
              columns={[
                { head: "When", isName: true, cell: ({ occurredAt }) => moment(occurredAt) },
                { head: "Metric", cell: ({ metricKey }) => <code>{metricKey}</code> },
                { head: "Value", isFigure: true, cell: ({ value }) => figure(value) },
                { head: "Attributes", cell: ({ attributes }) => conditions(attributes).replaceAll(" and ", ", ") || "–" },
              ]}
            />
          )}
        </Read>
      </Section>
    </>
  );
}
