import { useState } from "preact/hooks";
import { createOne, deleteOne, updateOne } from "../../api.ts";
import { latestOf } from "../../data.ts";
import { figure } from "../../format.ts";
import type { LevelRow, System } from "../../records.ts";
import { levelSentence } from "../../sentences.ts";
import { EditPreview } from "../../preview/edit_preview.tsx";
import { Confirm, Dialog } from "../../ui/dialog.tsx";
import { asNumber, Form, keyFrom, keyOf, orNull, TextAreaField, TextField, useForm } from "../../ui/form.tsx";
import { Empty, Section } from "../../ui/page.tsx";
import { Table } from "../../ui/table.tsx";

/** What totals are called. */
export function SystemLevels({ system }: { readonly system: System }) {
  const [open, setOpen] = useState<LevelRow | "new">();
  const [deleting, setDeleting] = useState<LevelRow>();
  const path = `/admin/v1/points/${system.id}/levels`;
  const add = (
    <button type="button" class="button primary" onClick={() => {
      setOpen("new");
    }}>Add a level</button>
  );
  return (
    <Section title="Levels" lead="A user is at the highest level whose points the total has reached. A change here holds for everybody at once." actions={add}>
      {system.levels.nodes.length === 0 ? (
        <Empty title="No levels.">Give totals a name: Bronze from 0, Silver from 100, Gold from 500.</Empty>
      ) : (
        <Table
          caption={`Levels of ${system.name}`}
          rows={system.levels.nodes}
          keyOf={({ id }) => id}
          columns={[
            { head: "Name", isName: true, cell: ({ name, badgeUrl }) => <>{badgeUrl !== null && <img class="badge" src={badgeUrl} alt="" />}{name}</> },
            { head: "Key", cell: ({ key }) => <code>{key}</code> },
            { head: "From", isFigure: true, cell: ({ points }) => figure(points) },
            { head: "Description", cell: ({ description }) => (description === "" ? "–" : description) },
            {
              head: "Actions",
              isAction: true,
              cell: (level) => (
                <>
                  <button type="button" class="button small" aria-label={`Edit ${level.name}`} onClick={() => {
                    setOpen(level);
                  }}>Edit</button>
                  <button type="button" class="button small quiet" aria-label={`Delete ${level.name}`} onClick={() => {
                    setDeleting(level);
                  }}>Delete</button>
                </>
              ),
            },
          ]}
        />
      )}
      {open !== undefined && <LevelForm system={system} path={path} level={latestOf(open, system.levels.nodes)} onClose={() => {
        setOpen(undefined);
      }} />}
      {deleting !== undefined && (
        <Confirm title={`Delete ${deleting.name}?`} action="Delete" run={() => deleteOne(path, deleting.id)} onClose={() => {
          setDeleting(undefined);
        }}>
          <p>Its users are at the level below from now on. Totals stay.</p>
        </Confirm>
      )}
    </Section>
  );
}

function LevelForm({ system, path, level, onClose }: { readonly system: System; readonly path: string; readonly level: LevelRow | undefined; readonly onClose: () => void }) {
  const form = useForm({
    draft: `level ${path} ${level?.id ?? ""}`,
    initial: {
      name: level?.name ?? "", key: level?.key ?? "", points: level === undefined ? "" : String(level.points),
      description: level?.description ?? "", badgeUrl: level?.badgeUrl ?? "",
    },
    version: level?.updatedAt,
    words: { key: /\bkey\b/i, points: /points|threshold/i, badgeUrl: /badge|\burl\b/i, description: /description/i, name: /\bname\b/i },
    submit: async ({ name, key, points, description, badgeUrl }, { version }) => {
      const url = orNull(badgeUrl);
      const item = { name, points: asNumber(points), description, badge: url === null ? null : { url } };
      if (level === undefined) await createOne(path, { ...item, key: keyOf({ name, key }) });
      else await updateOne(path, { id: level.id, ...item, unchangedSince: version });
      onClose();
    },
  });
  const { name, points } = form.values;
  return (
    <Dialog title={level === undefined ? "Add a level" : `Edit ${level.name}`} onClose={onClose} aside={<LevelReach system={system} level={level} values={form.values} />}>
      <p class="sentence" aria-live="polite">{levelSentence(name, points)}</p>
      <Form form={form} submitLabel={level === undefined ? "Add the level" : "Save"} onCancel={onClose}>
        <TextField form={form} name="name" label="Name" placeholder="Silver" />
        {level === undefined && <TextField form={form} name="key" label="Key" placeholder={keyFrom(name)} />}
        <TextField form={form} name="points" label="From how many points" isNumber />
        <TextAreaField form={form} name="description" label="Description" rows={2} />
        <TextField form={form} name="badgeUrl" label="Badge" type="url" placeholder="https://…" hint="An image's address; may stay empty." />
      </Form>
    </Dialog>
  );
}

interface LevelValues {
  readonly name: string;
  readonly key: string;
  readonly points: string;
}

/** Who would reach the level, and when. */
function LevelReach({ system, level, values }: { readonly system: System; readonly level: LevelRow | undefined; readonly values: LevelValues }) {
  const key = level?.key ?? (values.key === "" ? keyFrom(values.name) || "level" : values.key);
  return (
    <EditPreview
      system={system}
      level={key}
      draft={{ levels: [{ ...(level === undefined ? {} : { id: level.id }), key, name: values.name === "" ? "level" : values.name, points: asNumber(values.points) ?? 0 }] }}
    />
  );
}
