import { tryKey } from "../api.ts";
import { session, signedOutBecause, signIn } from "../session.ts";
import { useStore } from "../stores.ts";
import { Form, TextField, useForm } from "../ui/form.tsx";
import { LaurelMark } from "../ui/laurel.tsx";

export function SignIn() {
  const reason = useStore(signedOutBecause);
  const form = useForm({
    draft: "sign in",
    initial: { key: "" },
    words: { key: /./ },
    submit: async ({ key }) => {
      const next = { key: key.trim(), tenant: session.get()?.tenant ?? "" };
      await tryKey(next);
      signIn(next);
    },
  });
  return (
    <main class="sign-in">
      <div class="sign-in-card">
        <LaurelMark size={56} />
        <h1>Laurel</h1>
        <p class="lead">Points your product can explain.</p>
        {reason !== "" && <p class="note" role="status">{reason}</p>}
        <Form form={form} submitLabel="Sign in">
          <TextField
            form={form}
            name="key"
            type="password"
            label="Admin key"
            autoFocus
            hint={<>The first start printed it: <code>prefix.body</code>. It stays in this tab until you close it, and is never part of an address.</>}
          />
        </Form>
      </div>
    </main>
  );
}
