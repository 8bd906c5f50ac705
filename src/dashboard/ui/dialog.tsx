import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { noteChange, sentenceOf } from "../data.ts";

interface DialogProps {
  readonly title: string;
  readonly onClose: () => void;
  /** What is shown beside the form; on a phone below it. */
  readonly aside?: ComponentChildren;
  readonly children: ComponentChildren;
}

/** A sheet over the page; the browser keeps the focus inside, and Escape closes it. What was typed stays a draft. */
export function Dialog({ title, onClose, aside, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    dialog?.querySelector<HTMLElement>("[data-autofocus], form input, form select, form textarea")?.focus();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={element}
      class={aside === undefined ? "sheet" : "sheet wide"}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <header class="sheet-head">
        <h2 id={id}>{title}</h2>
        <button type="button" class="icon-button" aria-label="Close" onClick={onClose}>×</button>
      </header>
      <div class="sheet-body">
        <div class="sheet-main">{children}</div>
        {aside !== undefined && <aside class="sheet-aside" aria-label="Preview">{aside}</aside>}
      </div>
    </dialog>
  );
}

interface ConfirmProps {
  readonly title: string;
  readonly action: string;
  readonly run: () => Promise<void>;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}

/** Asks before something that cannot be taken back. */
export function Confirm({ title, action, run, onClose, children }: ConfirmProps) {
  const [fault, setFault] = useState<string>();
  const [isBusy, setIsBusy] = useState(false);
  return (
    <Dialog title={title} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          setIsBusy(true);
          run().then(
            () => {
              noteChange();
              onClose();
            },
            (error: unknown) => {
              setFault(sentenceOf(error));
              setIsBusy(false);
            },
          );
        }}
      >
        {children}
        {fault !== undefined && <p class="fault" role="alert">{fault}</p>}
        <div class="form-actions">
          <button type="submit" class="button danger" disabled={isBusy}>{action}</button>
          <button type="button" class="button" data-autofocus onClick={onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}

/** A button that does one thing at once, and shows what the server had against it. */
export function ActionButton({ run, children, label, class: className = "button small" }: {
  readonly run: () => Promise<void>;
  readonly children: ComponentChildren;
  /** For screen readers, where the text alone does not say of what. */
  readonly label?: string;
  readonly class?: string;
}) {
  const [fault, setFault] = useState<string>();
  const [isBusy, setIsBusy] = useState(false);
  return (
    <>
      <button
        type="button"
        class={className}
        disabled={isBusy}
        {...(label === undefined ? {} : { "aria-label": label })}
        onClick={() => {
          setIsBusy(true);
          setFault(undefined);
          run()
            .then(noteChange, (error: unknown) => {
              setFault(sentenceOf(error));
            })
            .finally(() => {
              setIsBusy(false);
            });
        }}
      >
        {children}
      </button>
      {fault !== undefined && <span class="fault" role="alert">{fault}</span>}
    </>
  );
}
