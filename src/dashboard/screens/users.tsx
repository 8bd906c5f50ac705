import { useState } from "preact/hooks";
import { ask, call, type Page as Rows } from "../api.ts";
import { useReading } from "../data.ts";
import * as documents from "../documents.ts";
import { figure, moment } from "../format.ts";
import { useAttributes } from "../reads.ts";
import type { UserRow } from "../records.ts";
import { addressOf, Link, navigate } from "../router.tsx";
import { conditions } from "../sentences.ts";
import { Dialog } from "../ui/dialog.tsx";
import { Form, orNull, type Pair, PairsField, TextField, useForm } from "../ui/form.tsx";
import { Empty, Page, Read } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";
import { filterOf } from "./points_system/trigger_form.tsx";

/** Who earns points. */
export function Users() {
  const [search, setSearch] = useState("");
  const [attribute, setAttribute] = useState<Pair>({ key: "", value: "" });
  const [pages, setPages] = useState(1);
  const [isOpen, setIsOpen] = useState(false);
  const attributes = (useAttributes().data ?? []).filter(({ type }) => type === "user");
  const text = search.trim();
  const isFiltered = text !== "" || (attribute.key !== "" && attribute.value.trim() !== "");
  const carried = attribute.key === "" || attribute.value.trim() === "" ? {} : { [attribute.key]: attribute.value.trim() };
  const reading = useReading(async () => {
    const rows: UserRow[] = [];
    let after: string | null = null;
    for (let page = 0; page < pages; page += 1) {
      const { users }: { users: Rows<UserRow> } = await ask(documents.users, { search: text, attributes: carried, after });
      rows.push(...users.nodes);
      after = users.pageInfo.hasNextPage ? users.pageInfo.endCursor : null;
      if (after === null) break;
    }
    return { rows, hasMore: after !== null };
  }, ["users", text, carried, pages]);
  const add = (
    <button type="button" class="button" onClick={() => {
      setIsOpen(true);
    }}>Identify a user</button>
  );
  return (
    <Page title="Users" lead="Whoever your events name. A user begins with the first event, or when you identify one." actions={add}>
      <search class="filters">
        <div class="field">
          <label for="user-search">ID, name or email begins with</label>
          <input id="user-search" type="search" autocomplete="off" spellcheck={false} value={search} onInput={(event) => {
            setSearch(event.currentTarget.value);
            setPages(1);
          }} />
        </div>
        {attributes.length > 0 && (
          <>
            <div class="field">
              <label for="user-attribute">Attribute</label>
              <select id="user-attribute" value={attribute.key} onChange={(event) => {
                setAttribute({ ...attribute, key: event.currentTarget.value });
                setPages(1);
              }}>
                <option value="">any</option>
                {attributes.map(({ key, name }) => <option key={key} value={key} selected={key === attribute.key}>{name}</option>)}
              </select>
            </div>
            {attribute.key !== "" && (
              <div class="field">
                <label for="user-attribute-value">is</label>
                <input id="user-attribute-value" autocomplete="off" value={attribute.value} onInput={(event) => {
                  setAttribute({ ...attribute, value: event.currentTarget.value });
                  setPages(1);
                }} />
              </div>
            )}
          </>
        )}
      </search>
      <Read reading={reading}>
        {({ rows, hasMore }) => rows.length === 0 ? (
          isFiltered
            ? <Empty title="Nobody matches.">What you type is looked for at the beginning of IDs (capitals matter), names and email addresses.</Empty>
            : <Empty title="No users yet.">Send an event from the <Link href="/">overview</Link>, or identify a user.</Empty>
        ) : (
          <>
            <Table
              caption="Users"
              rows={rows}
              keyOf={({ id }) => id}
              columns={[
                { head: "ID", isName: true, cell: ({ id }) => <Link href={addressOf("users", id)}>{id}</Link> },
                { head: "Name", cell: ({ name, email }) => name ?? email ?? "–" },
                {
                  head: "Points",
                  cell: ({ balances }) => balances.nodes.length === 0
                    ? <span class="muted">none yet</span>
                    : balances.nodes.map(({ systemKey, total, level }) => <span class="balance" key={systemKey}><b>{figure(total)}</b> {systemKey}{level === null ? "" : ` · ${level}`}</span>),
                },
                { head: "Attributes", cell: ({ attributes: own }) => conditions(own).replaceAll(" and ", ", ") || "–" },
                { head: "Since", cell: ({ createdAt }) => moment(createdAt) },
              ]}
            />
            {hasMore && <p><button type="button" class="button" onClick={() => {
              setPages(pages + 1);
            }}>Show more</button></p>}
          </>
        )}
      </Read>
      {isOpen && <UserForm onClose={() => {
        setIsOpen(false);
      }} />}
    </Page>
  );
}

function UserForm({ onClose }: { readonly onClose: () => void }) {
  const attributes = (useAttributes().data ?? []).filter(({ type }) => type === "user");
  const form = useForm({
    draft: "user",
    initial: { id: "", name: "", email: "", tz: "", attributes: [] as readonly Pair[] },
    words: { tz: /time zone|\btz\b/i, email: /email/i, attributes: /attribute/i, id: /\bID\b/, name: /name/i },
    submit: async ({ id, name, email, tz, attributes: own }) => {
      await call("POST", "/v1/users", {
        id,
        ...(orNull(name) === null ? {} : { name }), ...(orNull(email) === null ? {} : { email }), ...(orNull(tz) === null ? {} : { tz }),
        attributes: filterOf(own),
      });
      onClose();
      navigate(addressOf("users", id));
    },
  });
  return (
    <Dialog title="Identify a user" onClose={onClose}>
      <Form form={form} submitLabel="Identify" onCancel={onClose}>
        <TextField form={form} name="id" label="ID" hint="Your own ID of the user. One that exists is changed." />
        <TextField form={form} name="name" label="Name" />
        <TextField form={form} name="email" label="Email" type="email" />
        <TextField form={form} name="tz" label="Time zone" placeholder="Europe/Paris" suggestions={Intl.supportedValuesOf("timeZone")} hint="Empty counts as UTC." />
        <PairsField form={form} name="attributes" label="Attributes" add="Add an attribute" keys={attributes.map(({ key, name }) => ({ value: key, label: name }))} missing={<>Declare <Link href="/attributes">user attributes</Link> to tell users apart.</>} />
      </Form>
    </Dialog>
  );
}
