import type { ComponentChildren } from "preact";
import { createStore, useStore } from "./stores.ts";

/** The address's path, without query: the dashboard keeps what it filters by to itself. */
const path = createStore(location.pathname);

let isHeld = false;

/** Keeps the browser's back button from leaving the screen, until what it answers is called; the tab is not closed unasked. */
export function stayHere(): () => void {
  const ask = (event: BeforeUnloadEvent): void => {
    event.preventDefault();
  };
  isHeld = true;
  addEventListener("beforeunload", ask);
  return () => {
    isHeld = false;
    removeEventListener("beforeunload", ask);
  };
}

addEventListener("popstate", () => {
  if (isHeld) history.pushState(undefined, "", path.get());
  else path.set(location.pathname);
});

let isFirst = true;
path.subscribe(() => {
  isFirst = false;
});

/** Whether another screen was opened since the page was loaded: from then on the focus follows the screens. */
export const hasNavigated = (): boolean => !isFirst;

export const usePath = (): string => useStore(path);

/** Goes to another screen. */
export function navigate(to: string): void {
  if (to === path.get()) return;
  history.pushState(undefined, "", to);
  path.set(to);
  scrollTo(0, 0);
}

/** An address made of parts, each of them any text. */
export const addressOf = (...parts: readonly string[]): string => `/${parts.map(encodeURIComponent).join("/")}`;

/** Holds a path against a pattern such as `/users/:id`; undefined when it does not fit. */
export function matchPath(pattern: string, given: string): Readonly<Record<string, string>> | undefined {
  const wanted = pattern.split("/").filter((part) => part !== "");
  const parts = given.split("/").filter((part) => part !== "");
  const params: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const isOptional = part.endsWith("?");
    const value = parts[index];
    if (value === undefined && isOptional) continue;
    if (value === undefined) return undefined;
    if (part.startsWith(":")) {
      try {
        params[part.slice(1).replace("?", "")] = decodeURIComponent(value);
      } catch {
        return undefined;
      }
    } else if (part !== value) return undefined;
  }
  return parts.length > wanted.length ? undefined : params;
}

interface LinkProps {
  readonly href: string;
  readonly class?: string;
  readonly "aria-current"?: "page";
  readonly children: ComponentChildren;
}

/** A link to another screen; opened in another tab it works all the same. */
export function Link({ href, children, ...rest }: LinkProps) {
  return (
    <a
      {...rest}
      href={href}
      onClick={(event) => {
        if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
        event.preventDefault();
        navigate(href);
      }}
    >
      {children}
    </a>
  );
}
