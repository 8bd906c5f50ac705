import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { noteChange, sentenceOf } from "../data.ts";
import { onceOf } from "./form.tsx";

interface DialogProps {
  readonly title: string;
  readonly onClose: () => void;
  /** What is shown beside the form; on a phone below it. */
  readonly aside?: ComponentChildren;
  /** Whether what opened it will be gone: then the focus goes to the page's title. */
  readonly endsOpener?: { readonly current: boolean };
  /** Whether only what is inside closes it. */
  readonly isLocked?: boolean;
  readonly children: ComponentChildren;
}

/** A sheet over the page; the browser keeps the focus inside, and Escape closes it. What was typed stays a draft. */
export function Dialog({ title, onClose, aside, endsOpener, isLocked = false, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  const isOver = useRef(false);
  // Before anything is drawn: a key that is pressed as the fields appear meets an open dialog.
  useLayoutEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    dialog?.querySelector<HTMLElement>("[data-autofocus], form input, form select, form textarea")?.focus();
    return () => {
      isOver.current = true;
      dialog?.close();
      const back = endsOpener?.current !== true && before instanceof HTMLElement && before.isConnected ? before : document.querySelector<HTMLElement>("h1");
      back?.focus({ preventScroll: true });
    };
  }, []);
  return (
    <dialog
      ref={element}
      class={aside === undefined ? "sheet" : "sheet wide"}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        if (!isLocked) onClose();
      }}
      onClose={() => {
        // Browsers may close it without asking first.
        if (isOver.current) return;
        if (isLocked) element.current?.showModal();
        else onClose();
      }}
    >
      <header class="sheet-head">
        <h2 id={id}>{title}</h2>
        {!isLocked && <button type="button" class="icon-button" aria-label="Close" onClick={onClose}>×</button>}
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
  /** Whether something is shown afterwards, in its place. */
  readonly staysOpen?: boolean;
  readonly children: ComponentChildren;
}

/** Asks before something that cannot be taken back. */
export function Confirm({ title, action, run, onClose, staysOpen = false, children }: ConfirmProps) {
  const [fault, setFault] = useState<string>();
  const [isBusy, setIsBusy] = useState(false);
  const isUnderWay = useRef(false);
  const isDone = useRef(false);
  return (
    <Dialog title={title} onClose={onClose} endsOpener={isDone}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          if (isUnderWay.current) return;
          isUnderWay.current = true;
          setIsBusy(true);
          run().then(
            () => {
              isDone.current = !staysOpen;
              noteChange();
              if (!staysOpen) onClose();
            },
            (error: unknown) => {
              isUnderWay.current = false;
              setFault(sentenceOf(error));
              setIsBusy(false);
            },
          );
        }}
      >
        {children}
        {fault !== undefined && <p class="fault" role="alert">{fault}</p>}
        <div class="form-actions">
          <button type="submit" class="button danger" disabled={isBusy} onClick={onceOf}>{action}</button>
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
  const isUnderWay = useRef(false);
  return (
    <>
      <button
        type="button"
        class={className}
        disabled={isBusy}
        {...(label === undefined ? {} : { "aria-label": label })}
        onClick={(event) => {
          // By the second click of a double click it may say, and do, the opposite.
          if (event.detail > 1 || isUnderWay.current) return;
          isUnderWay.current = true;
          setIsBusy(true);
          setFault(undefined);
          run()
            .then(noteChange, (error: unknown) => {
              setFault(sentenceOf(error));
            })
            .finally(() => {
              isUnderWay.current = false;
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
