import { useState } from "preact/hooks";
import { createOne, deleteOne, updateOne } from "../api.ts";
import { latestOf } from "../data.ts";
import { useAttributes } from "../reads.ts";
import type { AttributeRow } from "../records.ts";
import { Confirm, Dialog } from "../ui/dialog.tsx";
import { Form, keyFrom, keyOf, SelectField, TextField, useForm } from "../ui/form.tsx";
import { Empty, Page, Read } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";

const path = "/admin/v1/attributes";

/** What rules may filter by. */
export function Attributes() {
  const reading = useAttributes();
  const [open, setOpen] = useState<AttributeRow | "new">();
  const [deleting, setDeleting] = useState<AttributeRow>();
  const add = (
    <button type="button" class="button primary" onClick={() => {
      setOpen("new");
    }}>Add an attribute</button>
  );
  return (
    <Page title="Attributes" lead="What you tell Laurel about users (plan = premium) and events (priority = high), so that rules can ask for it." actions={add}>
      <Read reading={reading}>
        {(attributes) => attributes.length === 0 ? (
          <Empty title="No attributes yet.">Rules then apply to everybody and to every event. Declare an attribute to tell them apart.</Empty>
        ) : (
          <Table
            caption="Attributes"
            rows={attributes}
            keyOf={({ id }) => id}
            columns={[
              { head: "Name", isName: true, cell: ({ name }) => name },
              { head: "Key", cell: ({ key }) => <code>{key}</code> },
              { head: "Carried by", cell: ({ type }) => (type === "user" ? "users" : "events") },
              {
                head: "Actions",
                isAction: true,
                cell: (attribute) => (
                  <>
                    <button type="button" class="button small" aria-label={`Rename ${attribute.name}`} onClick={() => {
                      setOpen(attribute);
                    }}>Rename</button>
                    <button type="button" class="button small quiet" aria-label={`Delete ${attribute.name}`} onClick={() => {
                      setDeleting(attribute);
                    }}>Delete</button>
                  </>
                ),
              },
            ]}
          />
        )}
      </Read>
      {open !== undefined && <AttributeForm attribute={latestOf(open, reading.data)} onClose={() => {
        setOpen(undefined);
      }} />}
      {deleting !== undefined && (
        <Confirm title={`Delete ${deleting.name}?`} action="Delete" run={() => deleteOne(path, deleting.id)} onClose={() => {
          setDeleting(undefined);
        }}>
          <p>Events and users may no longer carry <code>{deleting.key}</code>.</p>
        </Confirm>
      )}
    </Page>
  );
}

function AttributeForm({ attribute, onClose }: { readonly attribute: AttributeRow | undefined; readonly onClose: () => void }) {
  const form = useForm({
    draft: `attribute ${attribute?.id ?? ""}`,
    initial: { name: attribute?.name ?? "", key: attribute?.key ?? "", type: attribute?.type ?? "user" },
    version: attribute?.updatedAt,
    words: { type: /\btype\b/i, key: /\bkey\b/i, name: /\bname\b/i },
    submit: async ({ name, key, type }, { version }) => {
      if (attribute === undefined) await createOne(path, { name, key: keyOf({ name, key }), type });
      else await updateOne(path, { id: attribute.id, name, unchangedSince: version });
      onClose();
    },
  });
  return (
    <Dialog title={attribute === undefined ? "Add an attribute" : `Rename ${attribute.name}`} onClose={onClose}>
      <Form form={form} submitLabel={attribute === undefined ? "Add the attribute" : "Save"} onCancel={onClose}>
        <TextField form={form} name="name" label="Name" placeholder="Plan" />
        {attribute === undefined && (
          <>
            <TextField form={form} name="key" label="Key" placeholder={keyFrom(form.values.name)} hint="The name it has in calls." />
            <SelectField form={form} name="type" label="Carried by" options={[{ value: "user", label: "users" }, { value: "event", label: "events" }]} />
          </>
        )}
      </Form>
    </Dialog>
  );
}
