import { useState } from "preact/hooks";
import { createOne } from "../api.ts";
import { figure } from "../format.ts";
import { useSystems } from "../reads.ts";
import { addressOf, Link, navigate } from "../router.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { asNumber, Form, keyFrom, keyOf, orNull, TextAreaField, TextField, useForm } from "../ui/form.tsx";
import { Empty, Page, Read } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";

/** The kinds of points there are. */
export function PointsSystems() {
  const reading = useSystems();
  const [isOpen, setIsOpen] = useState(false);
  const add = (
    <button type="button" class="button primary" onClick={() => {
      setIsOpen(true);
    }}>Create a points system</button>
  );
  return (
    <Page title="Points systems" lead="Kinds of points: XP that rewards, energy that meters. Each has its own rules, levels and totals." actions={add}>
      <Read reading={reading}>
        {(systems) => systems.length === 0 ? (
          <Empty title="No points system yet.">Create one, say XP; then add a trigger that pays for something your users do.</Empty>
        ) : (
          <Table
            caption="Points systems"
            rows={systems}
            keyOf={({ id }) => id}
            columns={[
              { head: "Name", isName: true, cell: ({ key, name }) => <Link href={addressOf("systems", key)}>{name}</Link> },
              { head: "Key", cell: ({ key }) => <code>{key}</code> },
              { head: "Triggers", cell: ({ triggers }) => shareOf(triggers.nodes, ({ status }) => status === "active") },
              { head: "Boosts", cell: ({ boosts }) => shareOf(boosts.nodes, ({ isActive }) => isActive) },
              { head: "Levels", isFigure: true, cell: ({ levels }) => some(levels.nodes.length) },
              { head: "Cap", isFigure: true, cell: ({ maxPoints }) => (maxPoints === null ? <span class="muted">none</span> : figure(maxPoints)) },
            ]}
          />
        )}
      </Read>
      {isOpen && <SystemForm onClose={() => {
        setIsOpen(false);
      }} />}
    </Page>
  );
}

/** Lists here read fifty of each at most. */
const some = (length: number): string => (length === 50 ? "50 or more" : String(length));

function shareOf<T>(rows: readonly T[], isActive: (row: T) => boolean) {
  const active = rows.filter(isActive).length;
  if (rows.length === 0) return <span class="muted">none</span>;
  return active === rows.length ? `${some(rows.length)} active` : `${active} of ${some(rows.length)} active`;
}

function SystemForm({ onClose }: { readonly onClose: () => void }) {
  const form = useForm({
    draft: "system",
    initial: { name: "", key: "", description: "", maxPoints: "" },
    words: { maxPoints: /max/i, key: /\bkey\b/i, description: /description/i, name: /\bname\b/i },
    submit: async ({ name, key, description, maxPoints }) => {
      const created = await createOne<{ key: string }>("/admin/v1/points", {
        name, key: keyOf({ name, key }), description: orNull(description), maxPoints: asNumber(maxPoints),
      });
      onClose();
      navigate(addressOf("systems", created.key));
    },
  });
  return (
    <Dialog title="Create a points system" onClose={onClose}>
      <Form form={form} submitLabel="Create the system" onCancel={onClose}>
        <TextField form={form} name="name" label="Name" placeholder="XP" />
        <TextField form={form} name="key" label="Key" placeholder={keyFrom(form.values.name)} hint="The name it has in calls. It cannot be changed." />
        <TextAreaField form={form} name="description" label="Description" />
        <TextField form={form} name="maxPoints" label="Cap" isNumber placeholder="none" hint="The most points a user can have; what goes beyond is not added." />
      </Form>
    </Dialog>
  );
}
