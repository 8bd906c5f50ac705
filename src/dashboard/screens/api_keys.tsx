import { useState } from "preact/hooks";
import { createOne, deleteOne } from "../api.ts";
import { useReading } from "../data.ts";
import { ago, moment } from "../format.ts";
import { callAll } from "../reads.ts";
import type { ApiKeyRow } from "../records.ts";
import { session } from "../session.ts";
import { Confirm, Dialog } from "../ui/dialog.tsx";
import { Form, TextField, useForm } from "../ui/form.tsx";
import { Empty, Page, Read, Section } from "../ui/page.tsx";
import { Secret } from "../ui/secret.tsx";
import { Table } from "../ui/table.tsx";

const kinds = {
  admin: { path: "/admin/v1/admin-api-keys", title: "Admin keys", lead: "Reach everything, in every tenant. For your servers and for people who look after points." },
  application: { path: "/admin/v1/application-api-keys", title: "Application keys", lead: "Act for one user each. For apps that talk to Laurel themselves." },
} as const;

/** Keys: made and revoked here, shown once. */
export function ApiKeys() {
  return (
    <Page title="API keys" lead="Sent as X-API-KEY with every call. A key is shown when it is made and never again; Laurel keeps its hash.">
      <Keys kind="admin" />
      <Keys kind="application" />
    </Page>
  );
}

function Keys({ kind }: { readonly kind: keyof typeof kinds }) {
  const { path, title, lead } = kinds[kind];
  const reading = useReading(() => callAll<ApiKeyRow>(path), [path]);
  const [isOpen, setIsOpen] = useState(false);
  const [revoking, setRevoking] = useState<ApiKeyRow>();
  const add = (
    <button type="button" class="button" onClick={() => {
      setIsOpen(true);
    }}>{kind === "admin" ? "Create an admin key" : "Create an application key"}</button>
  );
  const own = session.get()?.key.split(".")[0];
  return (
    <Section title={title} lead={lead} actions={add}>
      <Read reading={reading}>
        {(keys) => keys.length === 0 ? <Empty title="None yet.">{kind === "admin" ? "Make one for each program or person, so that the audit log can tell them apart." : "Make one when an app has to call Laurel for its user."}</Empty> : (
          <Table
            caption={title}
            rows={keys}
            keyOf={({ id }) => id}
            columns={[
              { head: "Key", isName: true, cell: ({ prefix }) => <><code>{prefix}.…</code>{prefix === own && <span class="muted"> (this session's)</span>}</> },
              kind === "admin"
                ? { head: "Name", cell: ({ name }: ApiKeyRow) => (name === "" ? "–" : name) }
                : { head: "User", cell: ({ userId }: ApiKeyRow) => userId ?? "–" },
              { head: "Created", cell: ({ created }) => moment(created) },
              { head: "Last used", cell: ({ lastUsed }) => (lastUsed === null ? <span class="muted">never</span> : ago(lastUsed)) },
              {
                head: "Actions",
                isAction: true,
                cell: (key) => (
                  <button type="button" class="button small quiet" aria-label={`Revoke ${key.prefix}`} onClick={() => {
                    setRevoking(key);
                  }}>Revoke</button>
                ),
              },
            ]}
          />
        )}
      </Read>
      {isOpen && <KeyForm kind={kind} onClose={() => {
        setIsOpen(false);
      }} />}
      {revoking !== undefined && (
        <Confirm title={`Revoke ${revoking.prefix}?`} action="Revoke" run={() => deleteOne(path, revoking.id)} onClose={() => {
          setRevoking(undefined);
        }}>
          <p>It stops working within five seconds, for good.{revoking.prefix === own && " It is the key you are signed in with."}</p>
        </Confirm>
      )}
    </Section>
  );
}

function KeyForm({ kind, onClose }: { readonly kind: keyof typeof kinds; readonly onClose: () => void }) {
  const [made, setMade] = useState<string>();
  const form = useForm({
    draft: `key ${kind}`,
    initial: { name: "", userId: "" },
    words: { userId: /user/i, name: /name/i },
    submit: async ({ name, userId }) => {
      const { key } = await createOne<{ key: string }>(kinds[kind].path, kind === "admin" ? { name } : { userId });
      setMade(key);
    },
  });
  if (made !== undefined) return <Secret title="The new key" secret={made} onClose={onClose}>Sent as <code>X-API-KEY</code>.</Secret>;
  return (
    <Dialog title={kind === "admin" ? "Create an admin key" : "Create an application key"} onClose={onClose}>
      <Form form={form} submitLabel="Create the key" onCancel={onClose}>
        {kind === "admin"
          ? <TextField form={form} name="name" label="Name" placeholder="Billing service" hint="Who will use it." />
          : <TextField form={form} name="userId" label="User ID" hint="The user it acts for." />}
      </Form>
    </Dialog>
  );
}
