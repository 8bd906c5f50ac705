import { createStore } from "./stores.ts";

/** How the page looks: as the system says, until somebody chooses. */
export type Theme = "system" | "light" | "dark";

const place = "laurel.theme";
const isTheme = (text: unknown): text is Theme => text === "system" || text === "light" || text === "dark";

const kept = localStorage.getItem(place);
export const theme = createStore<Theme>(isTheme(kept) ? kept : "system");

export function applyTheme(): void {
  const chosen = theme.get();
  if (chosen === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = chosen;
}

export function chooseTheme(next: Theme): void {
  localStorage.setItem(place, next);
  theme.set(next);
  applyTheme();
}
