import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ApiError } from "../api.ts";
import { fieldOf, noteChange, sentenceOf } from "../data.ts";
import { keptUntilSignOut, session } from "../session.ts";
import { conditions } from "../sentences.ts";
import { isSame, mergeValues, type Seen } from "./versions.ts";

interface Draft<V> {
  readonly values: V;
  readonly seen: Seen<V>;
}

/** What people typed and did not send yet, by form: closing a form or losing the session loses nothing. */
const drafts = keptUntilSignOut<string, Draft<unknown>>();

/** What the server had against what was sent. */
export interface Faults {
  /** The sentence beside a field. */
  faultOf: (field: string) => string | undefined;
  /** The sentence that is about no one field, or about one that is not on the page. Asked for after the fields. */
  otherFault: () => string | undefined;
}

/** A form: its values, and what the server had against them. */
export interface FormState<V> extends Faults {
  readonly values: V;
  /** Whether what was typed before, and never sent, was brought back. */
  readonly isDraft: boolean;
  readonly isSending: boolean;
  /** Whether somebody else saved what this form changes, and it was not sent again since. */
  readonly isOvertaken: boolean;
  /** What somebody else changed a value to that was changed here as well; undefined when nobody did. */
  theirsOf: (name: keyof V) => unknown;
  set: (change: Partial<V>) => void;
  startOver: () => void;
  send: () => void;
}

/** What a form is made from. */
export interface FormOptions<V> {
  /** Names the form among all, with the ID of what it changes. */
  readonly draft: string;
  readonly initial: V;
  /** When what it changes was last changed: `submit` is given the one that the values rest on, to send it along. */
  readonly version?: string | undefined;
  /** Words by which the server's sentences tell a field, most particular first. */
  readonly words?: Partial<Record<keyof V & string, RegExp>>;
  /** Refused with status 409 when somebody else saved meanwhile. A form that stays open answers the new version. */
  readonly submit: (values: V, seen: Seen<V>) => Promise<string | undefined>;
}

/** Keeps one refusal, and knows which fields are there to show it. */
export function useFaults(): Faults & { readonly note: (error: unknown, field?: string) => void; readonly clear: () => void } {
  const [refusal, setRefusal] = useState<{ readonly field: string | undefined; readonly sentence: string }>();
  // The fields of this drawing: a form shows some for some choices only, and the server may speak of the others.
  const drawn = new Set<string>();
  return {
    faultOf: (field) => {
      drawn.add(field);
      return refusal?.field === field ? refusal.sentence : undefined;
    },
    otherFault: () => (refusal?.field === undefined || !drawn.has(refusal.field) ? refusal?.sentence : undefined),
    note: (error, field = fieldOf(error)) => {
      setRefusal({ field, sentence: sentenceOf(error) });
    },
    clear: () => {
      setRefusal(undefined);
    },
  };
}

export function useForm<V extends object>({ draft: name, initial, version, words = {}, submit }: FormOptions<V>): FormState<V> {
  const draft = `${session.get()?.tenant ?? ""} ${name}`;
  const kept = drafts.get(draft) as Draft<V> | undefined;
  const [values, setValues] = useState<V>(kept?.values ?? initial);
  const [isDraft, setIsDraft] = useState(kept !== undefined);
  const [isSending, setIsSending] = useState(false);
  const { note, clear, ...faults } = useFaults();
  const isUnderWay = useRef(false);
  const current = useRef(values);
  current.current = values;
  const seen = useRef<Seen<V>>(kept?.seen ?? { version, initial });
  const [theirs, setTheirs] = useState<Partial<V>>();
  const wasRefused = useRef(false);
  const keep = (next: V): void => {
    current.current = next;
    setValues(next);
    if (isSame(next, seen.current.initial)) drafts.delete(draft);
    else drafts.set(draft, { values: next, seen: seen.current });
  };
  const send = async (): Promise<void> => {
    // Not by the state, which is that of the last drawing: two submits may come before the next.
    if (isUnderWay.current) return;
    isUnderWay.current = true;
    setIsSending(true);
    clear();
    try {
      const sent = current.current;
      const next = await submit(sent, seen.current);
      drafts.delete(draft);
      if (next !== undefined) seen.current = { version: next, initial: sent };
      setIsDraft(false);
      setTheirs(undefined);
      noteChange();
    } catch (error) {
      const named = fieldOf(error)?.split(/[.[]/)[0];
      const sentence = sentenceOf(error);
      // What somebody else did meanwhile is about the whole; reading it again brings it here.
      const isConflict = error instanceof ApiError && error.status === 409;
      wasRefused.current = isConflict;
      if (isConflict) noteChange();
      note(error, isConflict ? "" : named !== undefined && named in current.current ? named
        : Object.entries(words as Record<string, RegExp>).find(([, word]) => word.test(sentence))?.[0]);
    } finally {
      isUnderWay.current = false;
      setIsSending(false);
    }
  };
  // Read again, it may be another: after somebody else's change, or one made here.
  useEffect(() => {
    if (version === seen.current.version) return;
    const merged = mergeValues(seen.current.initial, current.current, initial);
    const wasTouched = !isSame(current.current, seen.current.initial);
    seen.current = { version, initial };
    if (wasTouched) keep(merged.values);
    else setValues(merged.values);
    if (wasTouched && merged.isNews) {
      clear();
      setTheirs(merged.theirs);
    } else if (wasRefused.current) {
      // It was about what this form does not show, or the same.
      void send();
    }
    wasRefused.current = false;
  }, [version]);
  return {
    values,
    isDraft,
    isSending,
    isOvertaken: theirs !== undefined,
    theirsOf: (field) => theirs?.[field],
    ...faults,
    set: (change) => {
      keep({ ...current.current, ...change });
    },
    startOver: () => {
      drafts.delete(draft);
      setIsDraft(false);
      clear();
      setTheirs(undefined);
      seen.current = { version, initial };
      current.current = initial;
      setValues(initial);
    },
    send: () => {
      void send();
    },
  };
}

interface FormProps<V> {
  readonly form: FormState<V>;
  readonly submitLabel: string;
  readonly onCancel?: (() => void) | undefined;
  readonly children: ComponentChildren;
}

/** Lets the second click of a double click do nothing: by then the first may have been answered. */
export function onceOf(event: MouseEvent): void {
  if (event.detail > 1) event.preventDefault();
}

/** Brings the focus to the field with a fault, when there is one, so that keyboards and screen readers are where the work is. */
export function useFocusOnFault(isSending: boolean): RefObject<HTMLFormElement | null> {
  const element = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (!isSending) element.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus();
  }, [isSending]);
  return element;
}

export function Form<V extends object>({ form, submitLabel, onCancel, children }: FormProps<V>) {
  const element = useFocusOnFault(form.isSending);
  return (
    <form
      ref={element}
      class="form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        form.send();
      }}
    >
      {form.isDraft && (
        <p class="note">
          What you typed before is still here.{" "}
          <button type="button" class="link" onClick={form.startOver}>Start over</button>
        </p>
      )}
      {form.isOvertaken && (
        <p class="note" role="alert">
          Somebody else changed this meanwhile. What you left alone is theirs by now; what you both changed is yours, with
          theirs named below it. Save again to keep it so, or{" "}
          <button type="button" class="link" onClick={form.startOver}>take theirs</button>.
        </p>
      )}
      {children}
      <OtherFault form={form} />
      <div class="form-actions">
        <button type="submit" class="button primary" disabled={form.isSending} aria-busy={form.isSending} onClick={onceOf}>{submitLabel}</button>
        {onCancel !== undefined && <button type="button" class="button" onClick={onCancel}>Cancel</button>}
      </div>
    </form>
  );
}

/** A component of its own, so that the fields in front of it are drawn by then. */
export function OtherFault({ form }: { readonly form: Pick<Faults, "otherFault"> }) {
  const fault = form.otherFault();
  return fault === undefined ? null : <p class="fault" role="alert">{fault}</p>;
}

/** The names of a form's values that are of a type. */
type NamesOf<V, T> = { [K in keyof V]: V[K] extends T ? K : never }[keyof V] & string;

interface FieldProps<V, T> {
  readonly form: FormState<V>;
  readonly name: NamesOf<V, T>;
  readonly label: string;
  readonly hint?: ComponentChildren;
}

interface Described {
  readonly id: string;
  readonly "aria-describedby"?: string;
  readonly "aria-invalid"?: boolean;
}

interface AnyFieldProps {
  readonly form: Pick<Faults, "faultOf">;
  readonly name: string;
  readonly label: string;
  readonly hint?: ComponentChildren;
  /** Label and control in one line, for numbers among many. */
  readonly isInline?: boolean;
  /** What somebody else made of it meanwhile. */
  readonly theirs?: string | undefined;
  readonly children: (described: Described) => ComponentChildren;
}

/** Label, hint and fault around a control. */
export function Field({ form, name, label, hint, isInline = false, theirs, children }: AnyFieldProps) {
  const id = useId();
  const fault = form.faultOf(name);
  const ids = [hint === undefined ? "" : `${id}-hint`, theirs === undefined ? "" : `${id}-theirs`, fault === undefined ? "" : `${id}-fault`].filter((part) => part !== "").join(" ");
  return (
    <div class={["field", isInline ? "inline" : "", fault === undefined ? "" : "has-fault"].join(" ").trim()}>
      <label for={id}>{label}</label>
      {children({ id, ...(ids === "" ? {} : { "aria-describedby": ids }), ...(fault === undefined ? {} : { "aria-invalid": true }) })}
      {fault !== undefined && <p class="fault" id={`${id}-fault`} role="alert">{fault}</p>}
      <Theirs id={id} text={theirs} />
      {hint !== undefined && <p class="hint" id={`${id}-hint`}>{hint}</p>}
    </div>
  );
}

function Theirs({ id, text }: { readonly id: string; readonly text: string | undefined }) {
  return text === undefined ? null : <p class="hint theirs" id={`${id}-theirs`}>Meanwhile set to {text}.</p>;
}

/** Of a form's value that somebody else changed as well, what it is by now, in words. */
function theirsIn<V extends object>(form: FormState<V>, name: keyof V, words: (value: unknown) => string): string | undefined {
  const value = form.theirsOf(name);
  return value === undefined ? undefined : words(value);
}

const quoted = (value: unknown): string => (value === "" ? "nothing" : `“${String(value)}”`);

type InputType = "text" | "date" | "url" | "password" | "search" | "email";

type TextProps<V> = FieldProps<V, string> & {
  readonly type?: InputType;
  readonly isNumber?: boolean;
  readonly placeholder?: string;
  readonly suggestions?: readonly string[];
  readonly autoFocus?: boolean;
};

export function TextField<V extends object>({ type = "text", isNumber = false, placeholder, suggestions, autoFocus, ...field }: TextProps<V>) {
  const { form, name } = field;
  const list = useId();
  return (
    <Field {...field} theirs={theirsIn(form, name, quoted)}>
      {(described) => (
        <>
          <input
            {...described}
            // The types tell kinds of inputs apart; every one of ours takes what is set here.
            {...({ type } as { type: "text" })}
            autocomplete="off"
            spellcheck={false}
            {...(isNumber ? { inputMode: "decimal" as const, class: "number" } : {})}
            {...(placeholder === undefined ? {} : { placeholder })}
            {...(autoFocus === true ? { "data-autofocus": true } : {})}
            {...(suggestions === undefined ? {} : { list })}
            value={form.values[name] as string}
            onInput={(event) => {
              form.set({ [name]: event.currentTarget.value } as unknown as Partial<V>);
            }}
          />
          {suggestions !== undefined && <datalist id={list}>{suggestions.map((text) => <option key={text} value={text} />)}</datalist>}
        </>
      )}
    </Field>
  );
}

export function TextAreaField<V extends object>({ rows = 3, ...field }: FieldProps<V, string> & { readonly rows?: number }) {
  const { form, name } = field;
  return (
    <Field {...field} theirs={theirsIn(form, name, quoted)}>
      {(described) => (
        <textarea
          {...described}
          rows={rows}
          value={form.values[name] as string}
          onInput={(event) => {
            form.set({ [name]: event.currentTarget.value } as unknown as Partial<V>);
          }}
        />
      )}
    </Field>
  );
}

/** What a select offers. */
export interface Option {
  readonly value: string;
  readonly label: string;
}

export function SelectField<V extends object>({ options, ...field }: FieldProps<V, string> & { readonly options: readonly Option[] }) {
  const { form, name } = field;
  // What was not chosen yet is the first of the options: they may come after the form did.
  const given = form.values[name] as string;
  const chosen = options.some(({ value }) => value === given) ? given : options[0]?.value;
  return (
    <Field {...field} theirs={theirsIn(form, name, (value) => quoted(options.find((option) => option.value === value)?.label ?? value))}>
      {(described) => (
        <select
          {...described}
          value={chosen}
          onChange={(event) => {
            form.set({ [name]: event.currentTarget.value } as unknown as Partial<V>);
          }}
        >
          {options.map(({ value, label }) => <option key={value} value={value} selected={value === chosen}>{label}</option>)}
        </select>
      )}
    </Field>
  );
}

export function CheckField<V extends object>({ form, name, label, hint }: FieldProps<V, boolean>) {
  const id = useId();
  const fault = form.faultOf(name);
  const ids = [hint === undefined ? "" : `${id}-hint`, fault === undefined ? "" : `${id}-fault`].filter((part) => part !== "").join(" ");
  return (
    <div class={fault === undefined ? "field check" : "field check has-fault"}>
      <input
        id={id}
        type="checkbox"
        checked={form.values[name] as boolean}
        {...(ids === "" ? {} : { "aria-describedby": ids })}
        {...(fault === undefined ? {} : { "aria-invalid": true })}
        onChange={(event) => {
          form.set({ [name]: event.currentTarget.checked } as unknown as Partial<V>);
        }}
      />
      <label for={id}>{label}</label>
      {fault !== undefined && <p class="fault" id={`${id}-fault`} role="alert">{fault}</p>}
      <Theirs id={id} text={theirsIn(form, name, (value) => (value === true ? "yes" : "no"))} />
      {hint !== undefined && <p class="hint" id={`${id}-hint`}>{hint}</p>}
    </div>
  );
}

/** One of a filter's conditions, as typed. */
export interface Pair {
  readonly key: string;
  readonly value: string;
}

/** A filter: attributes that have to be equal to values; none means everybody, or everything. */
export function PairsField<V extends object>({
  form, name, label, hint, keys, missing, add = "Add a condition",
}: FieldProps<V, readonly Pair[]> & {
  /** What the button that adds a pair says. */
  readonly add?: string;
  readonly keys: readonly Option[];
  /** What to say when no attribute is declared yet. */
  readonly missing: ComponentChildren;
}) {
  const id = useId();
  const pairs = form.values[name] as readonly Pair[];
  const fault = form.faultOf(name);
  const put = (next: readonly Pair[]): void => {
    form.set({ [name]: next } as unknown as Partial<V>);
  };
  return (
    <fieldset class={fault === undefined ? "field pairs" : "field pairs has-fault"} aria-describedby={fault === undefined ? `${id}-hint` : `${id}-hint ${id}-fault`}>
      <legend>{label}</legend>
      {pairs.map((pair, index) => (
        <div class="pair" key={index}>
          <select
            aria-label={`${label}: attribute ${index + 1}`}
            value={pair.key}
            onChange={(event) => {
              put(pairs.map((other, at) => (at === index ? { ...other, key: event.currentTarget.value } : other)));
            }}
          >
            {keys.map((option) => <option key={option.value} value={option.value} selected={option.value === pair.key}>{option.label}</option>)}
          </select>
          <span aria-hidden="true">=</span>
          <input
            aria-label={`${label}: value ${index + 1}`}
            aria-invalid={fault !== undefined}
            value={pair.value}
            onInput={(event) => {
              put(pairs.map((other, at) => (at === index ? { ...other, value: event.currentTarget.value } : other)));
            }}
          />
          <button
            type="button"
            class="icon-button"
            aria-label={`Remove condition ${index + 1}`}
            onClick={() => {
              put(pairs.filter((_other, at) => at !== index));
            }}
          >
            ×
          </button>
        </div>
      ))}
      {keys.length === 0 ? (
        <p class="hint">{missing}</p>
      ) : (
        <button
          type="button"
          class="button small"
          onClick={() => {
            const unused = keys.find(({ value }) => !pairs.some(({ key }) => key === value)) ?? keys[0];
            put([...pairs, { key: unused?.value ?? "", value: "" }]);
          }}
        >
          {add}
        </button>
      )}
      {fault !== undefined && <p class="fault" id={`${id}-fault`} role="alert">{fault}</p>}
      <Theirs id={id} text={theirsIn(form, name, (value) => conditions(Object.fromEntries((value as readonly Pair[]).map((pair) => [pair.key, pair.value]))) || "no condition")} />
      {hint !== undefined && <p class="hint" id={`${id}-hint`}>{hint}</p>}
    </fieldset>
  );
}

/** A number as the API wants it; what is no number goes as it was typed, for the server to say what is wrong. */
export function asNumber(text: string): number | string | null {
  const trimmed = text.trim();
  if (trimmed === "") return null;
  return Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
}

/** A text, or null for none. */
export const orNull = (text: string): string | null => (text.trim() === "" ? null : text.trim());

/** The key of a new thing: as typed, or made from its name. Without either, the name is what is missing. */
export function keyOf({ name, key = "" }: { readonly name: string; readonly key?: string }): string {
  if (key === "" && name.trim() === "") throw new ApiError(422, "It needs a name.", "name");
  return key === "" ? keyFrom(name) : key;
}

/** A key made from a name: letters, digits, hyphens. */
export const keyFrom = (name: string): string =>
  name.normalize("NFKD").replaceAll(/\p{M}/gu, "").toLowerCase().replaceAll(/[^a-z0-9_]+/g, "-").replaceAll(/^-|-$/g, "");
