import { useState } from "preact/hooks";
import type { z } from "zod";
import type { adminLeaderboardAnswer, rankingsAnswer } from "../../rest/answers.ts";
import { call, createOne, deleteOne, updateOne } from "../api.ts";
import { latestOf, useReading } from "../data.ts";
import { day, figure, today } from "../format.ts";
import type { AttributeRow } from "../records.ts";
import { callAll, useAttributes, useMetrics, useSystems } from "../reads.ts";
import { addressOf, Link } from "../router.tsx";
import type { ScreenProps } from "../screens.ts";
import { ActionButton, Confirm, Dialog } from "../ui/dialog.tsx";
import { asNumber, Field, Form, keyFrom, keyOf, orNull, SelectField, TextAreaField, TextField, useForm } from "../ui/form.tsx";
import { Empty, Page, Read, Status } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";

type Board = z.output<typeof adminLeaderboardAnswer>;
type Rankings = z.output<typeof rankingsAnswer>;

const path = "/admin/v1/leaderboards";
const everyMs = 5_000;

/** Who is ahead. */
export function Leaderboards() {
  const reading = useReading(() => callAll<Board>(path), ["leaderboards"]);
  const [open, setOpen] = useState<Board | "new">();
  const [archiving, setArchiving] = useState<Board>();
  const close = (): void => {
    setOpen(undefined);
  };
  return (
    <Page
      title="Leaderboards"
      lead="Users ranked by a metric, by points or by their streak, for good or in runs. Ties go to who got there first."
      actions={<button type="button" class="button primary" onClick={() => {
        setOpen("new");
      }}>Add a leaderboard</button>}
    >
      <Read reading={reading}>
        {(boards) => boards.length === 0 ? <Empty title="Nobody is ranked yet.">Add a leaderboard, say of XP earned each month.</Empty> : (
          <Table
            caption="Leaderboards"
            rows={boards}
            keyOf={({ id }) => id}
            columns={[
              { head: "Name", isName: true, cell: ({ key, name }) => <Link href={addressOf("leaderboards", key)}>{name}</Link> },
              { head: "Ranks by", cell: (board) => <RankedBy board={board} /> },
              { head: "Runs", cell: runsOf },
              { head: "Places", isFigure: true, cell: ({ maxParticipants }) => figure(maxParticipants) },
              { head: "Status", cell: ({ status }) => <Status value={status} /> },
              {
                head: "Actions",
                isAction: true,
                cell: (board) => (
                  <>
                    {board.status === "inactive" && (
                      <ActionButton class="button small primary" label={`Activate ${board.name}`} run={async () => {
                        await updateOne(path, { id: board.id, status: "active" });
                      }}>Activate</ActionButton>
                    )}
                    <button type="button" class="button small" aria-label={`Edit ${board.name}`} onClick={() => {
                      setOpen(board);
                    }}>Edit</button>
                    <button type="button" class="button small quiet" aria-label={`Archive ${board.name}`} onClick={() => {
                      setArchiving(board);
                    }}>Archive</button>
                  </>
                ),
              },
            ]}
          />
        )}
      </Read>
      {open !== undefined && <BoardForm board={latestOf(open, reading.data)} onClose={close} />}
      {archiving !== undefined && (
        <Confirm title={`Archive ${archiving.name}?`} action="Archive" run={() => deleteOne(path, archiving.id)} onClose={() => {
          setArchiving(undefined);
        }}>
          <p>It is gone for callers, with its rankings.</p>
        </Confirm>
      )}
    </Page>
  );
}

function RankedBy({ board: { rankBy, metricId, pointsSystemId } }: { readonly board: Board }) {
  const metrics = useMetrics().data ?? [];
  const systems = useSystems().data ?? [];
  if (rankBy === "metric") return <>{metrics.find(({ id }) => id === metricId)?.name ?? "a metric"}</>;
  if (rankBy === "points") return <>{systems.find(({ id }) => id === pointsSystemId)?.name ?? "points"}</>;
  return <>streak</>;
}

const runsOf = ({ runUnit, runInterval, start, end }: Board): string =>
  `${runUnit === undefined ? "one" : `every ${runInterval === 1 || runInterval === undefined ? runUnit : `${runInterval} ${runUnit}s`}`}, from ${day(start)}${end === undefined ? "" : ` to ${day(end)}`}`;

/** One leaderboard as it stands. One with a ranking for each value of an attribute shows that of the value asked for. */
export function Leaderboard({ key = "" }: ScreenProps) {
  const boards = useReading(() => callAll<Board>(path), ["leaderboards"]);
  const attributes = useAttributes();
  const board = boards.data?.find((each) => each.key === key);
  const groups = (attributes.data ?? []).filter(({ id }) => board?.breakdownAttributes.includes(id) === true);
  return (
    <Page title={board?.name ?? key} lead={board === undefined ? undefined : <>Ranks by <RankedBy board={board} />. Runs: {runsOf(board)}.</>} trail={[{ label: "Leaderboards", href: "/leaderboards" }]}>
      <Read reading={boards}>{() => <Read reading={attributes}>{() => <Standing key={key} boardKey={key} places={board?.maxParticipants ?? 10} groups={groups} />}</Read>}</Read>
    </Page>
  );
}

/** So many places are shown at most. */
const mostPlaces = 100;

function Standing({ boardKey, places, groups }: { readonly boardKey: string; readonly places: number; readonly groups: readonly AttributeRow[] }) {
  const [chosen, setChosen] = useState<Readonly<Record<string, string>>>({});
  const [typed, setTyped] = useState<Readonly<Record<string, string>>>({});
  const given = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== ""));
  const isAsked = groups.length === 0 || Object.keys(given).length > 0;
  const filter = groups.length === 0 ? "" : JSON.stringify(given);
  const reading = useReading(
    async () => (isAsked ? call<Rankings>("GET", `/v1/leaderboards/${encodeURIComponent(boardKey)}?${new URLSearchParams({ limit: String(Math.min(places, mostPlaces)), userAttributes: filter }).toString()}`) : undefined),
    ["rankings", boardKey, places, filter],
    everyMs,
  );
  return (
    <>
      {groups.length > 0 && (
        <form class="filters" onSubmit={(event) => {
          event.preventDefault();
          setChosen(typed);
        }}>
          {groups.map(({ key, name }, index) => (
            <Field key={key} form={{ faultOf: () => (index === groups.length - 1 && reading.field === "userAttributes" ? reading.fault : undefined) }} name={key} label={`${name} equal to`}>
              {(described) => <input {...described} autocomplete="off" spellcheck={false} value={typed[key] ?? ""} onInput={(event) => {
                setTyped({ ...typed, [key]: event.currentTarget.value });
              }} />}
            </Field>
          ))}
          <button type="submit" class="button">Show</button>
        </form>
      )}
      {!isAsked && <Empty title="It ranks users apart.">Say above which ones to show.</Empty>}
      {isAsked && (reading.field !== "userAttributes" || groups.length === 0) && <Read reading={reading}>
        {(found) => found === undefined || found.rankings.length === 0 ? <Empty title="Nobody is on it yet.">Whoever reaches a value above 0 in the current run appears here. See <Link href="/users">who there is</Link>.</Empty> : (
          <Table
            caption="Rankings"
            rows={found.rankings}
            keyOf={({ userId }) => userId}
            columns={[
              { head: "Rank", isFigure: true, cell: ({ rank }) => figure(rank) },
              { head: "User", isName: true, cell: ({ userId, userName }) => <Link href={addressOf("users", userId)}>{userName ?? userId}</Link> },
              { head: "Value", isFigure: true, cell: ({ value }) => figure(value) },
            ]}
          />
        )}
      </Read>}
      <p class="live">live</p>
    </>
  );
}

function BoardForm({ board, onClose }: { readonly board: Board | undefined; readonly onClose: () => void }) {
  const metrics = useMetrics().data ?? [];
  const systems = useSystems().data ?? [];
  const attributes = (useAttributes().data ?? []).filter(({ type }) => type === "user");
  const form = useForm({
    draft: `leaderboard ${board?.id ?? ""}`,
    initial: {
      name: board?.name ?? "", key: board?.key ?? "", description: board?.description ?? "", rankBy: board?.rankBy ?? "points",
      metricId: board?.metricId ?? "", pointsSystemId: board?.pointsSystemId ?? "", maxParticipants: String(board?.maxParticipants ?? 100),
      start: board?.start ?? today(), end: board?.end ?? "", runUnit: board?.runUnit ?? "", runInterval: String(board?.runInterval ?? 1),
      breakdown: board?.breakdownAttributes[0] ?? "",
    },
    version: board?.updated,
    words: {
      maxParticipants: /maxParticipants|participants/i, runInterval: /interval/i, runUnit: /run/i, end: /\bends?\b/i, start: /\bstarts?\b/i,
      metricId: /metric/i, pointsSystemId: /points|system/i, key: /\bkey\b/i, name: /\bname\b/i,
    },
    submit: async (values, { version }) => {
      const item = {
        name: values.name,
        rankBy: values.rankBy,
        description: orNull(values.description),
        metricId: values.rankBy === "metric" ? orNull(values.metricId) ?? metrics[0]?.id ?? null : null,
        pointsSystemId: values.rankBy === "points" ? orNull(values.pointsSystemId) ?? systems[0]?.id ?? null : null,
        maxParticipants: asNumber(values.maxParticipants),
        start: values.start,
        end: orNull(values.end),
        runUnit: orNull(values.runUnit),
        runInterval: values.runUnit === "" ? null : asNumber(values.runInterval),
        // Several of them are made by the API; what the form does not show it does not take away.
        ...(board !== undefined && values.breakdown === board.breakdownAttributes[0] ? {} : { breakdownAttributes: values.breakdown === "" ? [] : [values.breakdown] }),
      };
      if (board === undefined) await createOne(path, { ...item, key: keyOf(values), status: "inactive" });
      else await updateOne(path, { id: board.id, ...item, unchangedSince: version });
      onClose();
    },
  });
  const { values } = form;
  return (
    <Dialog title={board === undefined ? "Add a leaderboard" : `Edit ${board.name}`} onClose={onClose}>
      <Form form={form} submitLabel={board === undefined ? "Add, inactive for now" : "Save"} onCancel={onClose}>
        <TextField form={form} name="name" label="Name" placeholder="XP of the month" />
        {board === undefined && <TextField form={form} name="key" label="Key" placeholder={keyFrom(values.name)} />}
        <SelectField form={form} name="rankBy" label="Rank by" options={[{ value: "points", label: "points earned" }, { value: "metric", label: "a metric" }, { value: "streak", label: "the streak" }]} />
        {values.rankBy === "metric" && <SelectField form={form} name="metricId" label="Metric" options={metrics.map(({ id, name }) => ({ value: id, label: name }))} />}
        {values.rankBy === "points" && <SelectField form={form} name="pointsSystemId" label="Points system" options={systems.map(({ id, name }) => ({ value: id, label: name }))} />}
        <div class="field-row">
          <TextField form={form} name="start" label="First day" type="date" />
          <TextField form={form} name="end" label="Last day" type="date" hint="Empty: no end." />
        </div>
        <div class="field-row">
          <SelectField form={form} name="runUnit" label="Begins anew" options={[{ value: "", label: "never" }, { value: "day", label: "by days" }, { value: "month", label: "by months" }, { value: "year", label: "by years" }]} />
          {values.runUnit !== "" && <TextField form={form} name="runInterval" label="Every" isNumber hint={`${values.runUnit}s`} />}
        </div>
        <TextField form={form} name="maxParticipants" label="Places" isNumber hint="1 to 1,000." />
        {attributes.length > 0 && <SelectField form={form} name="breakdown" label="One ranking for each" options={[{ value: "", label: "no attribute: all together" }, ...attributes.map(({ id, name }) => ({ value: id, label: name }))]} />}
        <TextAreaField form={form} name="description" label="Description" rows={2} />
      </Form>
    </Dialog>
  );
}
