import { useState } from "preact/hooks";
import { deleteOne, updateOne } from "../../api.ts";
import { latestOf } from "../../data.ts";
import { signed } from "../../format.ts";
import type { System, TriggerRow } from "../../records.ts";
import { triggerSentence } from "../../sentences.ts";
import { ActionButton, Confirm } from "../../ui/dialog.tsx";
import { Empty, Section, Status } from "../../ui/page.tsx";
import { Table } from "../../ui/table.tsx";
import { Estimate } from "../../preview/estimate.tsx";
import { TriggerForm, triggerTypes } from "./trigger_form.tsx";

/** What a system pays for. */
export function SystemTriggers({ system }: { readonly system: System }) {
  const [open, setOpen] = useState<TriggerRow | "new">();
  const [archiving, setArchiving] = useState<TriggerRow>();
  const path = `/admin/v1/points/${system.id}/triggers`;
  const triggers = system.triggers.nodes;
  const add = (
    <button type="button" class="button primary" onClick={() => {
      setOpen("new");
    }}>Add a trigger</button>
  );
  return (
    <Section title="Triggers" lead="Each awards points, or takes some. New ones are inactive: look at what they would do, then activate them." actions={add}>
      {triggers.length === 0 ? (
        <Empty title="This system pays for nothing yet.">Add a trigger, say 10 points for every 3 tasks.</Empty>
      ) : (
        <Table
          caption={`Triggers of ${system.name}`}
          rows={triggers}
          keyOf={({ id }) => id}
          columns={[
            { head: "Rule", isName: true, cell: (trigger) => <span class="rule">{triggerSentence(wordsOf(trigger))}</span> },
            { head: "Kind", cell: ({ type }) => triggerTypes.find(({ value }) => value === type)?.short ?? type },
            { head: "Points", isFigure: true, cell: ({ points }) => signed(points) },
            { head: "Status", cell: ({ status }) => <Status value={status} /> },
            {
              head: "Actions",
              isAction: true,
              cell: (trigger) => {
                const sentence = triggerSentence(wordsOf(trigger));
                const isActive = trigger.status === "active";
                return (
                  <>
                    <ActionButton
                      class={isActive ? "button small" : "button small primary"}
                      label={`${isActive ? "Deactivate" : "Activate"}: ${sentence}`}
                      run={async () => {
                        await updateOne(path, { id: trigger.id, status: isActive ? "inactive" : "active" });
                      }}
                    >
                      {isActive ? "Deactivate" : "Activate"}
                    </ActionButton>
                    <button type="button" class="button small" aria-label={`Edit: ${sentence}`} onClick={() => {
                      setOpen(trigger);
                    }}>Edit</button>
                    <button type="button" class="button small quiet" aria-label={`Archive: ${sentence}`} onClick={() => {
                      setArchiving(trigger);
                    }}>Archive</button>
                  </>
                );
              },
            },
          ]}
        />
      )}
      {triggers.length > 0 && <Estimate system={system} />}
      {open !== undefined && <TriggerForm system={system} trigger={latestOf(open, triggers)} onClose={() => {
        setOpen(undefined);
      }} />}
      {archiving !== undefined && (
        <Confirm title="Archive this trigger?" action="Archive" run={() => deleteOne(path, archiving.id)} onClose={() => {
          setArchiving(undefined);
        }}>
          <p class="sentence">{triggerSentence(wordsOf(archiving))}</p>
          <p>It stops, for good. What it paid stays, and stays explained.</p>
        </Confirm>
      )}
    </Section>
  );
}

const wordsOf = (trigger: TriggerRow) => ({
  ...trigger,
  metric: trigger.metric ?? undefined,
  achievementName: trigger.achievement?.name,
});
