import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { stayHere } from "../router.tsx";
import { Dialog } from "./dialog.tsx";

/** Shows what is never shown again, until somebody says to have kept it: no key, no click beside and no way back takes it away. */
export function Secret({ title, secret, onClose, children }: {
  readonly title: string;
  readonly secret: string;
  readonly onClose: () => void;
  /** What it is for. */
  readonly children: ComponentChildren;
}) {
  const [copied, setCopied] = useState("");
  useEffect(stayHere, []);
  return (
    <Dialog title={title} isLocked onClose={onClose}>
      <div class="form">
        <p>{children} It is shown this once: copy it now.</p>
        <p class="secret"><code>{secret}</code></p>
        <div class="form-actions">
          <button type="button" class="button primary" data-autofocus onClick={() => {
            navigator.clipboard.writeText(secret).then(() => {
              setCopied("Copied.");
            }, () => {
              setCopied("The browser does not let this page copy: select it and copy it yourself.");
            });
          }}>Copy</button>
          <button type="button" class="button" onClick={onClose}>I have kept it</button>
          <span role="status">{copied}</span>
        </div>
      </div>
    </Dialog>
  );
}
