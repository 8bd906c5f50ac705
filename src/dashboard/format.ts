/** Numbers and dates as people read them. Exact numbers come as text, and keep every digit. */

const groups = new Intl.NumberFormat("en");

export function figure(value: number | string): string {
  if (typeof value === "number") return groups.format(value);
  const [whole = "", fraction] = value.split(".");
  const shown = /^-?\d+$/.test(whole) ? groups.format(BigInt(whole)) : whole;
  return fraction === undefined || /^0*$/.test(fraction) ? shown : `${shown}.${fraction.replace(/0+$/, "")}`;
}

/** With its sign: +30, −5. */
export const signed = (value: number): string => (value > 0 ? `+${figure(value)}` : figure(value).replace("-", "−"));

/** A share in percent as people read it: 55.6 %. */
export const percent = (value: number): string => `${figure(Math.round(value * 10) / 10)} %`;

const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const days = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });

export const moment = (iso: string): string => moments.format(new Date(iso));
/** A date of the calendar, without a time zone. */
export const day = (iso: string): string => days.format(new Date(`${iso.slice(0, 10)}T00:00:00Z`));
export const today = (): string => new Date().toISOString().slice(0, 10);

/** 1 point, 2 points. */
export const count = (value: number | string, one: string, many = `${one}s`): string =>
  `${figure(value)} ${String(value) === "1" || String(value) === "-1" ? one : many}`;

/** How long ago, roughly. */
export function ago(iso: string, now: number = Date.now()): string {
  const seconds = Math.round((now - new Date(iso).getTime()) / 1000);
  if (seconds < 60) return "just now";
  const steps: readonly [number, string][] = [[60, "minute"], [3600, "hour"], [86_400, "day"]];
  const [size, unit] = steps.findLast(([least]) => seconds >= least) ?? [60, "minute"];
  return size === 86_400 && seconds >= 30 * size ? moment(iso) : `${count(Math.floor(seconds / size), unit)} ago`;
}
