import { call, createOne } from "../../api.ts";
import { useAttributes, useSystems } from "../../reads.ts";
import type { User } from "../../records.ts";
import { Link, navigate } from "../../router.tsx";
import { Confirm, Dialog } from "../../ui/dialog.tsx";
import { asNumber, Form, orNull, PairsField, SelectField, TextField, useForm } from "../../ui/form.tsx";
import { changedValues } from "../../ui/versions.ts";
import { filterOf, pairsOf } from "../points_system/trigger_form.tsx";

const pathOf = (userId: string): string => `/v1/users/${encodeURIComponent(userId)}`;

/** Changes what is known of a user. */
export function ProfileForm({ user, onClose }: { readonly user: User; readonly onClose: () => void }) {
  const attributes = (useAttributes().data ?? []).filter(({ type }) => type === "user");
  const form = useForm({
    draft: `profile ${user.id}`,
    initial: {
      name: user.name ?? "", email: user.email ?? "", tz: user.tz ?? "", signUpDate: user.signUpDate ?? "",
      attributes: pairsOf(user.attributes),
    },
    version: user.updated,
    words: { tz: /time zone|\btz\b/i, email: /email/i, signUpDate: /sign|date/i, attributes: /attribute/i, name: /name/i },
    // What is known of a user changes with every event that says so, too: what was changed here is all that is sent.
    submit: async (values, { initial }) => {
      const { attributes: pairs, ...texts } = changedValues(initial, values);
      const [before, kept] = [filterOf(initial.attributes), filterOf(values.attributes)];
      const changed = Object.entries(kept).filter(([key, value]) => before[key] !== value);
      const removed = Object.keys(before).filter((key) => !(key in kept)).map((key) => [key, null] as const);
      await call("PATCH", pathOf(user.id), {
        ...Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, orNull(text)])),
        ...(pairs === undefined ? {} : { attributes: Object.fromEntries([...removed, ...changed]) }),
      });
      onClose();
    },
  });
  return (
    <Dialog title={`Edit ${user.id}`} onClose={onClose}>
      <Form form={form} submitLabel="Save" onCancel={onClose}>
        <TextField form={form} name="name" label="Name" />
        <TextField form={form} name="email" label="Email" type="email" />
        <TextField form={form} name="tz" label="Time zone" suggestions={Intl.supportedValuesOf("timeZone")} hint="Empty counts as UTC. A change holds for what happens from now on." />
        <TextField form={form} name="signUpDate" label="Signed up on" type="date" />
        <PairsField form={form} name="attributes" label="Attributes" add="Add an attribute" keys={attributes.map(({ key, name }) => ({ value: key, label: name }))} missing={<>Declare <Link href="/attributes">user attributes</Link> first.</>} />
      </Form>
    </Dialog>
  );
}

/** Adds or takes points by hand. */
export function AdjustPoints({ userId, onClose }: { readonly userId: string; readonly onClose: () => void }) {
  const systems = useSystems().data ?? [];
  const form = useForm({
    draft: `adjust ${userId}`,
    initial: { systemId: "", points: "", reason: "" },
    words: { points: /points/i, reason: /reason/i },
    submit: async ({ systemId, points, reason }) => {
      const id = systemId === "" ? systems[0]?.id ?? "" : systemId;
      await createOne(`/admin/v1/points/${id}/adjustments`, { userId, points: asNumber(points), reason });
      onClose();
    },
  });
  return (
    <Dialog title={`Adjust the points of ${userId}`} onClose={onClose}>
      <p class="sentence">One row of the ledger, made by hand: not boosted, but held to cap and floor, and shown with its reason.</p>
      <Form form={form} submitLabel="Adjust" onCancel={onClose}>
        <SelectField form={form} name="systemId" label="Points system" options={systems.map(({ id, name }) => ({ value: id, label: name }))} />
        <TextField form={form} name="points" label="Points" isNumber hint="Below 0 to take." />
        <TextField form={form} name="reason" label="Reason" hint="Kept with the award." />
      </Form>
    </Dialog>
  );
}

/** Erases, after asking. */
export function EraseUser({ userId, onClose }: { readonly userId: string; readonly onClose: () => void }) {
  return (
    <Confirm
      title={`Erase ${userId}?`}
      action="Erase for good"
      run={async () => {
        await call("DELETE", `/admin/v1/users/${encodeURIComponent(userId)}`);
        navigate("/users");
      }}
      onClose={onClose}
    >
      <p>Everything stored about the user goes: profile, events, ledger, keys. The systems’ own figures stay right. This cannot be taken back.</p>
    </Confirm>
  );
}

/** Everything stored about a user, as a file. */
export async function exportUser(userId: string): Promise<void> {
  const content = await call("GET", `/admin/v1/users/${encodeURIComponent(userId)}/export`);
  const url = URL.createObjectURL(new Blob([JSON.stringify(content, undefined, 2)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${userId.replaceAll(/[^\w.-]/g, "_")}.json`;
  link.click();
  setTimeout(() => {
    URL.revokeObjectURL(url);
  }, 60_000);
}
