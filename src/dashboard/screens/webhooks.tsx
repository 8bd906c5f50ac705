import { useState } from "preact/hooks";
import { call, createOne, deleteOne, updateOne } from "../api.ts";
import { latestOf, useReading } from "../data.ts";
import { ago, count, moment } from "../format.ts";
import { callAll } from "../reads.ts";
import { addressOf, Link } from "../router.tsx";
import type { ScreenProps } from "../screens.ts";
import { ActionButton, Confirm, Dialog } from "../ui/dialog.tsx";
import { CheckField, Form, orNull, TextField, useForm } from "../ui/form.tsx";
import { Empty, Page, Read, Section, Status } from "../ui/page.tsx";
import { Secret } from "../ui/secret.tsx";
import { Table } from "../ui/table.tsx";

interface Webhook {
  readonly id: string;
  readonly url: string;
  readonly description: string | null;
  readonly eventTypes: readonly string[];
  readonly active: boolean;
  readonly disabledReason: string | null;
  readonly created: string;
  readonly updated: string;
}

interface Delivery {
  readonly messageId: string;
  readonly type: string;
  readonly userId: string | null;
  readonly status: "pending" | "delivered" | "parked";
  readonly created: string;
  readonly nextAttempt: string | null;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly attempts: readonly {
    readonly date: string; readonly latencyMs: number; readonly status: number | null; readonly error: string | null; readonly response: string | null;
  }[];
}

const path = "/admin/v1/webhooks";
const everyMs = 3_000;
const pendingEveryMs = 1_000;

const eventTypes = [
  "points.changed", "points.level_changed", "points.boost_started", "points.boost_finished", "achievement.completed",
  "streak.started", "streak.extended", "streak.lost", "streak.freeze_consumed", "streak.freeze_earned",
  "leaderboard.started", "leaderboard.changed", "leaderboard.finished", "leaderboard.rank_changed",
] as const;

const stateOf = ({ active, disabledReason }: Webhook): string => (disabledReason !== null ? "failed" : active ? "active" : "inactive");

/** Who is told of what. */
export function Webhooks() {
  const reading = useReading(() => callAll<Webhook>(path), ["webhooks"]);
  const [open, setOpen] = useState<Webhook | "new">();
  const [deleting, setDeleting] = useState<Webhook>();
  return (
    <Page
      title="Webhooks"
      lead="Laurel tells your servers what happens: signed, in order per user, tried again for more than a day. A slow receiver never slows an award."
      actions={<button type="button" class="button primary" onClick={() => {
        setOpen("new");
      }}>Add a webhook</button>}
    >
      <Read reading={reading}>
        {(webhooks) => webhooks.length === 0 ? <Empty title="Nobody is told yet.">Add the address of a server of yours, and choose what it wants to hear.</Empty> : (
          <Table
            caption="Webhooks"
            rows={webhooks}
            keyOf={({ id }) => id}
            columns={[
              { head: "Address", isName: true, cell: ({ id, url }) => <Link href={addressOf("webhooks", id)}>{url}</Link> },
              { head: "Hears", cell: ({ eventTypes: types }) => (types.length > 2 ? `${types.slice(0, 2).join(", ")} and ${types.length - 2} more` : types.join(", ")) },
              { head: "Status", cell: (webhook) => <Status value={stateOf(webhook)} /> },
              {
                head: "Actions",
                isAction: true,
                cell: (webhook) => (
                  <>
                    <ActionButton label={`${webhook.active ? "Deactivate" : "Activate"} ${webhook.url}`} run={async () => {
                      await updateOne(path, { id: webhook.id, active: !webhook.active });
                    }}>{webhook.active ? "Deactivate" : "Activate"}</ActionButton>
                    <button type="button" class="button small" aria-label={`Edit ${webhook.url}`} onClick={() => {
                      setOpen(webhook);
                    }}>Edit</button>
                    <button type="button" class="button small quiet" aria-label={`Delete ${webhook.url}`} onClick={() => {
                      setDeleting(webhook);
                    }}>Delete</button>
                  </>
                ),
              },
            ]}
          />
        )}
      </Read>
      {open !== undefined && <WebhookForm webhook={latestOf(open, reading.data)} onClose={() => {
        setOpen(undefined);
      }} />}
      {deleting !== undefined && (
        <Confirm title={`Delete ${deleting.url}?`} action="Delete" run={() => deleteOne(path, deleting.id)} onClose={() => {
          setDeleting(undefined);
        }}>
          <p>It is told nothing any more; what waits for it is dropped.</p>
        </Confirm>
      )}
    </Page>
  );
}

function WebhookForm({ webhook, onClose }: { readonly webhook: Webhook | undefined; readonly onClose: () => void }) {
  const [secret, setSecret] = useState<string>();
  const form = useForm({
    draft: `webhook ${webhook?.id ?? ""}`,
    initial: {
      url: webhook?.url ?? "", description: webhook?.description ?? "", active: webhook?.active ?? true,
      types: webhook?.eventTypes ?? (["points.changed", "points.level_changed"] as readonly string[]),
    },
    version: webhook?.updated,
    words: { types: /type/i, description: /description/i, url: /./ },
    submit: async ({ url, description, active, types }, { version }) => {
      const item = { url, description: orNull(description), active, eventTypes: types };
      if (webhook !== undefined) {
        await updateOne(path, { id: webhook.id, ...item, unchangedSince: version });
        onClose();
      } else setSecret((await createOne<{ secret: string }>(path, item)).secret);
    },
  });
  const { types } = form.values;
  if (secret !== undefined) return <WebhookSecret secret={secret} onClose={onClose} />;
  return (
    <Dialog title={webhook === undefined ? "Add a webhook" : "Edit the webhook"} onClose={onClose}>
      <Form form={form} submitLabel={webhook === undefined ? "Add the webhook" : "Save"} onCancel={onClose}>
        <TextField form={form} name="url" label="Address" type="url" placeholder="https://example.com/laurel" />
        <TextField form={form} name="description" label="Description" />
        <fieldset class="field">
          <legend>What it hears</legend>
          {eventTypes.map((type) => (
            <label key={type} class="choice">
              <input type="checkbox" checked={types.includes(type)} onChange={(event) => {
                form.set({ types: event.currentTarget.checked ? [...types, type] : types.filter((other) => other !== type) });
              }} />
              <code>{type}</code>
            </label>
          ))}
          {form.faultOf("types") !== undefined && <p class="fault" role="alert">{form.faultOf("types")}</p>}
        </fieldset>
        <CheckField form={form} name="active" label="Active" />
      </Form>
    </Dialog>
  );
}

function WebhookSecret({ secret, onClose }: { readonly secret: string; readonly onClose: () => void }) {
  return <Secret title="The webhook's secret" secret={secret} onClose={onClose}>It signs every message, and the receiver checks them with it.</Secret>;
}

/** Gives a webhook another secret, after asking. */
function NewSecret({ id, onClose }: { readonly id: string; readonly onClose: () => void }) {
  const [secret, setSecret] = useState<string>();
  if (secret !== undefined) return <WebhookSecret secret={secret} onClose={onClose} />;
  return (
    <Confirm title="Give it a new secret?" action="Make a new one" staysOpen run={async () => {
      setSecret((await call<{ secret: string }>("POST", `${path}/${id}/secret`, {})).secret);
    }} onClose={onClose}>
      <p>For a day, messages are signed with both: time enough for the receiver to change over. Then the one of today ends.</p>
    </Confirm>
  );
}

/** What was sent to one webhook, and what came back. */
export function WebhookLog({ id = "" }: ScreenProps) {
  const webhook = useReading(() => call<Webhook>("GET", `${path}/${encodeURIComponent(id)}`), ["webhook", id]);
  const [status, setStatus] = useState("");
  const [isReplacing, setIsReplacing] = useState(false);
  const deliveries = useReading(
    () => call<Delivery[]>("GET", `${path}/${encodeURIComponent(id)}/deliveries?limit=50${status === "" ? "" : `&status=${status}`}`),
    ["deliveries", id, status],
    // Who has just sent something again looks on until it has arrived.
    (rows = []) => (rows.some((row) => row.status === "pending") ? pendingEveryMs : everyMs),
  );
  return (
    <Page
      title={webhook.data?.url ?? "Webhook"}
      lead={webhook.data?.disabledReason ?? undefined}
      trail={[{ label: "Webhooks", href: "/webhooks" }]}
      actions={(
        <>
          <ActionButton class="button" run={async () => {
            await call("POST", `${path}/${id}/test`, {});
          }}>Send a test message</ActionButton>
          <ActionButton class="button" run={async () => {
            await call("POST", `${path}/${id}/replay`, { onlyParked: true });
          }}>Replay what was parked</ActionButton>
          <button type="button" class="button" onClick={() => {
            setIsReplacing(true);
          }}>New secret</button>
        </>
      )}
    >
      <Read reading={webhook}>{() => null}</Read>
      {isReplacing && <NewSecret id={id} onClose={() => {
        setIsReplacing(false);
      }} />}
      <Section title="Delivery log" lead={<span class="live">live</span>}>
        <div class="filters">
          <div class="field">
            <label for="delivery-status">Status</label>
            <select id="delivery-status" value={status} onChange={(event) => {
              setStatus(event.currentTarget.value);
            }}>
              <option value="">any</option>
              {["pending", "delivered", "parked"].map((value) => <option key={value} value={value}>{value}</option>)}
            </select>
          </div>
        </div>
        <Read reading={deliveries}>
          {(rows) => rows.length === 0 ? <Empty title="Nothing was sent yet.">Send a test message, or an event that changes points.</Empty> : (
            <Table
              caption="Messages, the latest first"
              rows={rows}
              keyOf={({ messageId }) => messageId}
              columns={[
                { head: "Message", isName: true, cell: ({ type, userId }) => <><code>{type}</code>{userId !== null && <> of {userId}</>}</> },
                { head: "Written", cell: ({ created }) => moment(created) },
                { head: "Status", cell: ({ status: state, nextAttempt }) => <><Status value={state} />{state === "pending" && nextAttempt !== null && <small class="muted"> next {moment(nextAttempt)}</small>}</> },
                { head: "Attempts", cell: ({ attempts, payload }) => <Attempts attempts={attempts} payload={payload} /> },
                {
                  head: "Actions",
                  isAction: true,
                  cell: ({ messageId, type, status: state }) => state === "pending" ? null : (
                    <ActionButton label={`Replay ${type} ${messageId}`} run={async () => {
                      await call("POST", `${path}/${id}/replay`, { messageId });
                    }}>Replay</ActionButton>
                  ),
                },
              ]}
            />
          )}
        </Read>
      </Section>
    </Page>
  );
}

function Attempts({ attempts, payload }: Pick<Delivery, "attempts" | "payload">) {
  return (
    <details>
      <summary>{attempts.length === 0 ? "none yet" : count(attempts.length, "attempt")}</summary>
      <ul class="attempts">
        {attempts.map(({ date, latencyMs, status, error, response }) => (
          <li key={date}>{ago(date)}: {status ?? error ?? "no answer"} in {count(latencyMs, "ms", "ms")}{response !== null && response !== "" && <> <code>{response}</code></>}</li>
        ))}
      </ul>
      <pre tabIndex={0}><code>{JSON.stringify(payload, undefined, 2)}</code></pre>
    </details>
  );
}
