import { useState } from "preact/hooks";
import { ask, deleteOne } from "../../api.ts";
import * as documents from "../../documents.ts";
import { latestOf } from "../../data.ts";
import { day, today } from "../../format.ts";
import { useAttributes } from "../../reads.ts";
import type { BoostRow, System } from "../../records.ts";
import { Link } from "../../router.tsx";
import { boostSentence, conditions } from "../../sentences.ts";
import { EditPreview } from "../../preview/edit_preview.tsx";
import { ActionButton, Confirm, Dialog } from "../../ui/dialog.tsx";
import { asNumber, Form, orNull, PairsField, SelectField, TextField, useForm } from "../../ui/form.tsx";
import { Empty, Section, Status } from "../../ui/page.tsx";
import { Table } from "../../ui/table.tsx";
import { attributeValues, filterOf, pairsOf } from "./trigger_form.tsx";

/** What multiplies a system's awards for a while. */
export function SystemBoosts({ system }: { readonly system: System }) {
  const [open, setOpen] = useState<BoostRow | "new">();
  const [archiving, setArchiving] = useState<BoostRow>();
  const add = (
    <button type="button" class="button primary" onClick={() => {
      setOpen("new");
    }}>Add a boost</button>
  );
  return (
    <Section title="Boosts" lead="For a while, awards are multiplied. Boosts that apply together multiply together; the cap comes after. New ones are inactive." actions={add}>
      {system.boosts.nodes.length === 0 ? (
        <Empty title="No boosts.">Try a double-points weekend, for everybody or for one cohort.</Empty>
      ) : (
        <Table
          caption={`Boosts of ${system.name}`}
          rows={system.boosts.nodes}
          keyOf={({ id }) => id}
          columns={[
            { head: "Name", isName: true, cell: ({ name }) => name },
            { head: "Awards", isFigure: true, cell: ({ multiplier }) => `× ${multiplier}` },
            { head: "For", cell: (boost) => (boost.userId !== null ? boost.userId : conditions(boost.userAttributes) || "everybody") },
            { head: "Days", cell: ({ startsOn, endsOn }) => `${day(startsOn)} – ${endsOn === null ? "no end" : day(endsOn)}` },
            { head: "Rounded", cell: ({ rounding }) => rounding },
            { head: "Status", cell: (boost) => <Status value={statusOf(boost)} /> },
            {
              head: "Actions",
              isAction: true,
              cell: (boost) => (
                <>
                  <ActionButton
                    class={boost.isActive ? "button small" : "button small primary"}
                    label={`${boost.isActive ? "Deactivate" : "Activate"} ${boost.name}`}
                    run={async () => {
                      await ask(documents.updatePointsBoost, { id: boost.id, patch: { isActive: !boost.isActive } });
                    }}
                  >
                    {boost.isActive ? "Deactivate" : "Activate"}
                  </ActionButton>
                  <button type="button" class="button small" aria-label={`Edit ${boost.name}`} onClick={() => {
                    setOpen(boost);
                  }}>Edit</button>
                  <button type="button" class="button small quiet" aria-label={`Archive ${boost.name}`} onClick={() => {
                    setArchiving(boost);
                  }}>Archive</button>
                </>
              ),
            },
          ]}
        />
      )}
      {open !== undefined && <BoostForm system={system} boost={latestOf(open, system.boosts.nodes)} onClose={() => {
        setOpen(undefined);
      }} />}
      {archiving !== undefined && (
        <Confirm title={`Archive ${archiving.name}?`} action="Archive" run={() => deleteOne(`/admin/v1/points/${system.id}/boosts`, archiving.id)} onClose={() => {
          setArchiving(undefined);
        }}>
          <p>It stops at once. Awards that it multiplied stay as they are, and stay explained.</p>
        </Confirm>
      )}
    </Section>
  );
}

/** Judged in UTC, as for a boost that is for everybody. */
function statusOf({ isActive, startsOn, endsOn }: BoostRow): string {
  if (!isActive) return "inactive";
  if (startsOn > today()) return "scheduled";
  return endsOn !== null && endsOn < today() ? "finished" : "active";
}

function BoostForm({ system, boost, onClose }: { readonly system: System; readonly boost: BoostRow | undefined; readonly onClose: () => void }) {
  const attributes = (useAttributes().data ?? []).filter(({ type }) => type === "user");
  const form = useForm({
    draft: `boost ${system.id} ${boost?.id ?? ""}`,
    initial: {
      name: boost?.name ?? "",
      multiplier: boost?.multiplier ?? "2",
      rounding: boost?.rounding ?? "down",
      startsOn: boost?.startsOn ?? today(),
      endsOn: boost?.endsOn ?? "",
      audience: (boost?.userId ?? null) !== null ? "user" : Object.keys(boost?.userAttributes ?? {}).length > 0 ? "cohort" : "everybody",
      userId: boost?.userId ?? "",
      userAttributes: pairsOf(boost?.userAttributes ?? {}),
    },
    version: boost?.updatedAt,
    words: {
      multiplier: /multipl|BigFloat/i, endsOn: /\bends?\b|endsOn/i, startsOn: /\bstarts?\b|startsOn|\bdate\b/i, rounding: /round/i,
      userAttributes: /attribute/i, userId: /\buser\b/i, name: /\bname\b/i,
    },
    submit: async (values, { version }) => {
      const { userId, ...patch } = {
        name: values.name.trim(),
        multiplier: values.multiplier.trim(),
        rounding: values.rounding,
        startsOn: values.startsOn,
        endsOn: orNull(values.endsOn),
        userId: values.audience === "user" ? values.userId.trim() : null,
        userAttributes: values.audience === "cohort" ? filterOf(values.userAttributes) : {},
      };
      if (boost === undefined) await ask(documents.createPointsBoost, { boost: { ...patch, userId, systemId: system.id, isActive: false } });
      else await ask(documents.updatePointsBoost, { id: boost.id, patch: { ...patch, updatedAt: version } });
      onClose();
    },
  });
  const { values } = form;
  const audience = values.audience;
  const draft = {
    boosts: [{
      ...(boost === undefined ? {} : { id: boost.id }),
      name: values.name.trim() === "" ? "boost" : values.name, multiplier: asNumber(values.multiplier), rounding: values.rounding,
      start: values.startsOn, end: orNull(values.endsOn),
      userAttributes: audience === "cohort" ? attributeValues(values.userAttributes, attributes, "user") : [],
    }],
  };
  return (
    <Dialog title={boost === undefined ? `Add a boost to ${system.name}` : `Edit ${boost.name}`} onClose={onClose} aside={audience === "user" ? undefined : <EditPreview system={system} draft={draft} />}>
      <p class="sentence" aria-live="polite">
        {boostSentence({ ...values, userId: audience === "user" ? values.userId : null, userAttributes: audience === "cohort" ? filterOf(values.userAttributes) : {} })}
      </p>
      <Form form={form} submitLabel={boost === undefined ? "Add, inactive for now" : "Save"} onCancel={onClose}>
        <TextField form={form} name="name" label="Name" placeholder="Double weekend" />
        <div class="field-row">
          <TextField form={form} name="multiplier" label="Awards times" isNumber hint="Above 0, below 100." />
          <SelectField form={form} name="rounding" label="Rounded" options={[{ value: "down", label: "down" }, { value: "up", label: "up" }, { value: "nearest", label: "to the nearest" }]} />
        </div>
        <div class="field-row">
          <TextField form={form} name="startsOn" label="First day" type="date" />
          <TextField form={form} name="endsOn" label="Last day" type="date" hint="Empty: no end." />
        </div>
        {boost === undefined || boost.userId === null ? (
          <SelectField
            form={form}
            name="audience"
            label="For"
            options={[
              { value: "everybody", label: "everybody" },
              { value: "cohort", label: "users with certain attributes" },
              ...(boost === undefined ? [{ value: "user", label: "one user" }] : []),
            ]}
          />
        ) : null}
        {audience === "user" && boost === undefined && <TextField form={form} name="userId" label="User ID" hint="The user has to exist already." />}
        {audience === "cohort" && (
          <PairsField
            form={form}
            name="userAttributes"
            label="Users with"
            keys={attributes.map(({ key, name }) => ({ value: key, label: name }))}
            missing={<>There are no user attributes yet: <Link href="/attributes">declare one first</Link>.</>}
            hint="All conditions must hold."
          />
        )}
      </Form>
    </Dialog>
  );
}
