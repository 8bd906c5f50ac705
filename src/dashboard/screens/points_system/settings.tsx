import { useState } from "preact/hooks";
import { deleteOne, updateOne } from "../../api.ts";
import type { System } from "../../records.ts";
import { navigate } from "../../router.tsx";
import { EditPreview } from "../../preview/edit_preview.tsx";
import { Confirm } from "../../ui/dialog.tsx";
import { asNumber, Form, orNull, TextAreaField, TextField, useForm } from "../../ui/form.tsx";
import { Section } from "../../ui/page.tsx";

/** A system's name, cap and end. */
export function SystemSettings({ system }: { readonly system: System }) {
  const [isArchiving, setIsArchiving] = useState(false);
  const [isSaved, setIsSaved] = useState(false);
  const form = useForm({
    draft: `system ${system.id}`,
    initial: {
      name: system.name, description: system.description ?? "", badgeUrl: system.badgeUrl ?? "",
      maxPoints: system.maxPoints === null ? "" : String(system.maxPoints),
    },
    version: system.updatedAt,
    words: { maxPoints: /max/i, badgeUrl: /badge|\burl\b/i, description: /description/i, name: /\bname\b/i },
    submit: async ({ name, description, badgeUrl, maxPoints }, { version }) => {
      setIsSaved(false);
      const url = orNull(badgeUrl);
      const { updated } = await updateOne<{ updated: string }>("/admin/v1/points", {
        id: system.id, name, description: orNull(description), badge: url === null ? null : { url }, maxPoints: asNumber(maxPoints),
        unchangedSince: version,
      });
      setIsSaved(true);
      return updated;
    },
  });
  return (
    <>
      <Section title="Settings">
        <div class="columns">
        <div class="card">
          <Form form={form} submitLabel="Save">
            <TextField form={form} name="name" label="Name" />
            <TextAreaField form={form} name="description" label="Description" />
            <TextField form={form} name="badgeUrl" label="Badge" type="url" placeholder="https://…" hint="An image's address; may stay empty." />
            <TextField form={form} name="maxPoints" label="Cap" isNumber placeholder="none" hint="When it is lowered, totals above it stay, and nothing is added to them until they are below it." />
            <p role="status" class="saved">{isSaved && !form.isDraft ? "Saved." : ""}</p>
          </Form>
        </div>
        <div class="card sunken"><EditPreview system={system} draft={{ maxPoints: asNumber(form.values.maxPoints) }} /></div>
        </div>
      </Section>
      <Section title="Archive" lead="An archived system awards nothing and is gone for callers. Its ledger stays.">
        <button type="button" class="button danger" onClick={() => {
          setIsArchiving(true);
        }}>Archive {system.name}</button>
      </Section>
      {isArchiving && (
        <Confirm
          title={`Archive ${system.name}?`}
          action="Archive"
          run={async () => {
            await deleteOne("/admin/v1/points", system.id);
            navigate("/systems");
          }}
          onClose={() => {
            setIsArchiving(false);
          }}
        >
          <p>Apps that ask for <code>{system.key}</code> get 404 from then on. This cannot be taken back here.</p>
        </Confirm>
      )}
    </>
  );
}
