import { useState } from "preact/hooks";
import { createOne, deleteOne, updateOne } from "../api.ts";
import { latestOf } from "../data.ts";
import { moment } from "../format.ts";
import { useTenants } from "../reads.ts";
import type { Tenant } from "../records.ts";
import { navigate } from "../router.tsx";
import { session, signIn } from "../session.ts";
import { Confirm, Dialog } from "../ui/dialog.tsx";
import { Form, TextField, useForm } from "../ui/form.tsx";
import { Page, Read, Status } from "../ui/page.tsx";
import { Table } from "../ui/table.tsx";

const path = "/admin/v1/tenants";

/** Customers whose users and rules are kept apart. */
export function Tenants() {
  const reading = useTenants();
  const [open, setOpen] = useState<Tenant | "new">();
  const [archiving, setArchiving] = useState<Tenant>();
  const current = session.get();
  const here = current === undefined || current.tenant === "" ? "default" : current.tenant;
  return (
    <Page
      title="Tenants"
      lead="Customers whose users, rules and points are kept apart. Callers name one by the Tenant-ID header; without it they get the default one."
      actions={<button type="button" class="button primary" onClick={() => {
        setOpen("new");
      }}>Add a tenant</button>}
    >
      <Read reading={reading}>
        {(tenants) => (
          <Table
            caption="Tenants"
            rows={tenants}
            keyOf={({ id }) => id}
            columns={[
              { head: "Name", isName: true, cell: ({ name }) => name },
              { head: "Customer ID", cell: ({ customerId }) => <code>{customerId}</code> },
              { head: "Status", cell: ({ status }) => <Status value={status} /> },
              { head: "Created", cell: ({ created }) => moment(created) },
              {
                head: "Actions",
                isAction: true,
                cell: (tenant) => (
                  <>
                    {tenant.customerId === here ? <span class="muted">you are here</span> : tenant.status === "active" && (
                      <button type="button" class="button small" aria-label={`Switch to ${tenant.name}`} onClick={() => {
                        if (current !== undefined) signIn({ key: current.key, tenant: tenant.customerId });
                        navigate("/");
                      }}>Switch</button>
                    )}
                    <button type="button" class="button small" aria-label={`Edit ${tenant.name}`} onClick={() => {
                      setOpen(tenant);
                    }}>Edit</button>
                    {tenant.status === "active" && tenant.customerId !== here && (
                      <button type="button" class="button small quiet" aria-label={`Archive ${tenant.name}`} onClick={() => {
                        setArchiving(tenant);
                      }}>Archive</button>
                    )}
                  </>
                ),
              },
            ]}
          />
        )}
      </Read>
      {open !== undefined && <TenantForm tenant={latestOf(open, reading.data)} onClose={() => {
        setOpen(undefined);
      }} />}
      {archiving !== undefined && (
        <Confirm title={`Archive ${archiving.name}?`} action="Archive" run={() => deleteOne(path, archiving.id)} onClose={() => {
          setArchiving(undefined);
        }}>
          <p>Callers that name <code>{archiving.customerId}</code> are refused from then on.</p>
        </Confirm>
      )}
    </Page>
  );
}

function TenantForm({ tenant, onClose }: { readonly tenant: Tenant | undefined; readonly onClose: () => void }) {
  const form = useForm({
    draft: `tenant ${tenant?.id ?? ""}`,
    initial: { name: tenant?.name ?? "", customerId: tenant?.customerId ?? "" },
    version: tenant?.updated,
    words: { customerId: /customer/i, name: /name/i },
    submit: async (values, { version }) => {
      if (tenant === undefined) await createOne(path, values);
      else await updateOne(path, { id: tenant.id, ...values, unchangedSince: version });
      onClose();
    },
  });
  return (
    <Dialog title={tenant === undefined ? "Add a tenant" : `Edit ${tenant.name}`} onClose={onClose}>
      <Form form={form} submitLabel={tenant === undefined ? "Add the tenant" : "Save"} onCancel={onClose}>
        <TextField form={form} name="name" label="Name" placeholder="Acme" />
        <TextField form={form} name="customerId" label="Customer ID" placeholder="acme" hint="What callers put into Tenant-ID." />
      </Form>
    </Dialog>
  );
}
