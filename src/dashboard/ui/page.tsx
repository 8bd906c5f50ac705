import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Reading } from "../data.ts";
import { hasNavigated, Link } from "../router.tsx";

interface PageProps {
  readonly title: string;
  /** One sentence that says what this screen is for. */
  readonly lead?: ComponentChildren;
  readonly actions?: ComponentChildren;
  readonly trail?: readonly { readonly label: string; readonly href: string }[];
  readonly children: ComponentChildren;
}

/** Addresses and the longest names are read, not looked at: more characters than these are set smaller. */
const longTitle = 60;

/** A screen: its title is where the focus goes when it opens, and what the tab is called. */
export function Page({ title, lead, actions, trail = [], children }: PageProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Laurel`;
  }, [title]);
  useEffect(() => {
    if (!hasNavigated()) return;
    if (document.activeElement === document.body || document.activeElement?.matches("nav *") === true) heading.current?.focus({ preventScroll: true });
  }, []);
  return (
    <div class="page">
      {trail.length > 0 && (
        <p class="trail">
          {trail.map(({ label, href }) => <span key={href}><Link href={href}>{label}</Link> <span aria-hidden="true">/</span> </span>)}
        </p>
      )}
      <header class="page-head">
        <div>
          <h1 ref={heading} tabIndex={-1} class={title.length > longTitle ? "long" : undefined}>{title}</h1>
          {lead !== undefined && <p class="lead">{lead}</p>}
        </div>
        {actions !== undefined && <div class="page-actions">{actions}</div>}
      </header>
      {children}
    </div>
  );
}

/** Part of a screen, under its own heading. */
export function Section({ title, lead, actions, children }: {
  readonly title: string;
  readonly lead?: ComponentChildren;
  readonly actions?: ComponentChildren;
  readonly children: ComponentChildren;
}) {
  return (
    <section class="section">
      <header class="section-head">
        <div>
          <h2>{title}</h2>
          {lead !== undefined && <p>{lead}</p>}
        </div>
        {actions !== undefined && <div class="page-actions">{actions}</div>}
      </header>
      {children}
    </section>
  );
}

/** What was read, or why it could not be. */
export function Read<T>({ reading, children }: { readonly reading: Reading<T>; readonly children: (data: T) => ComponentChildren }) {
  const { data, fault, reload } = reading;
  return (
    <>
      {fault !== undefined && (
        <p class="fault banner" role="alert">
          {fault} <button type="button" class="link" onClick={reload}>Try again</button>
        </p>
      )}
      {data !== undefined ? children(data) : fault === undefined && <div class="loading" role="status"><span class="visually-hidden">Loading</span></div>}
    </>
  );
}

/** Nothing here yet: what this is for, and what to do next. */
export function Empty({ title, children, actions }: { readonly title: string; readonly children: ComponentChildren; readonly actions?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      <p>{children}</p>
      {actions !== undefined && <div class="page-actions">{actions}</div>}
    </div>
  );
}

export function Status({ value }: { readonly value: string }) {
  return <span class={`status ${value}`}>{value}</span>;
}

/** Where one is among the parts of a thing. */
export function Tabs({ label, tabs, current }: {
  readonly label: string;
  readonly tabs: readonly { readonly key: string; readonly label: string; readonly href: string }[];
  readonly current: string;
}) {
  const element = useRef<HTMLElement>(null);
  useEffect(() => {
    // On a phone they scroll sideways; the page itself stays where it is.
    const here = element.current?.querySelector<HTMLElement>("[aria-current]");
    if (here !== null && here !== undefined) element.current?.scrollTo({ left: here.offsetLeft - element.current.offsetLeft - 24 });
  }, [current]);
  return (
    <nav class="tabs" aria-label={label} ref={element}>
      {tabs.map(({ key, label: text, href }) => (
        <Link key={key} href={href} {...(key === current ? { "aria-current": "page" } : {})}>{text}</Link>
      ))}
    </nav>
  );
}
