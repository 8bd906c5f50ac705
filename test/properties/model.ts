/**
 * The rules of points, said a second time and as plainly as possible: events in, points out. Small, slow and
 * exact (bigint), for comparing the database with. Decimals are integers of 10^-9 ("nanos").
 */

export type Rounding = "down" | "nearest" | "up";
export const nano = 1_000_000_000n;
/** 2^53 - 1: the most any total can be. */
const most = 9_007_199_254_740_991n;

export interface ModelTrigger {
  readonly type: "user_creation" | "metric";
  readonly system: number;
  readonly metric: number;
  every: number;
  points: number;
  readonly plan: string | null;
  readonly kind: string | null;
  readonly blocks: boolean;
  active: boolean;
}

export interface ModelBoost {
  readonly system: number;
  /** In ten-thousandths. */
  readonly multiplier: number;
  readonly rounding: Rounding;
  readonly startsOn: string;
  readonly endsOn: string | null;
  readonly user: string | null;
  readonly plan: string | null;
}

export interface ModelEvent {
  readonly user: string;
  readonly metric: number;
  readonly nanos: bigint;
  readonly kind: string | null;
  readonly key: string | null;
  readonly at: string;
  /** Comes along as the user's attribute; only record_event() can carry it. */
  readonly plan: string | null;
}

export interface ModelAward {
  readonly user: string;
  readonly system: number;
  readonly sequence: number;
  readonly cause: string;
  readonly trigger: number;
  readonly at: string;
  readonly base: bigint;
  /** Of the multipliers, in units of 10^-(4 x boosts). */
  readonly product: bigint;
  readonly boosts: number;
  readonly rounding: Rounding | null;
  readonly rounded: bigint;
  readonly points: bigint;
  readonly before: bigint;
  readonly after: bigint;
}

interface ModelUser {
  zone: string;
  plan: string | null;
}
interface Count {
  total: bigint;
  peak: bigint;
}

/** What one event did: null when it was a replay. */
export type Outcome = { readonly awards: readonly ModelAward[] } | null;

/** A blocking deduction that the user cannot pay for. */
export class OutOfPoints extends Error {}

export class Model {
  readonly users = new Map<string, ModelUser>();
  readonly metrics = new Map<string, Count>();
  readonly counts = new Map<string, Count>();
  readonly balances = new Map<string, { total: bigint; sequence: number }>();
  readonly keys = new Set<string>();
  readonly awards: ModelAward[] = [];
  events = 0;

  readonly triggers: ModelTrigger[];
  readonly boosts: readonly ModelBoost[];
  readonly maxPoints: (number | null)[];

  constructor(triggers: ModelTrigger[], boosts: readonly ModelBoost[], maxPoints: (number | null)[]) {
    this.triggers = triggers;
    this.boosts = boosts;
    this.maxPoints = maxPoints;
  }

  /** All events or, when one is refused, none of them. */
  recordAll(events: readonly ModelEvent[]): Outcome[] {
    const before = structuredClone([this.users, this.metrics, this.counts, this.balances, this.keys] as const);
    const awards = this.awards.length;
    const count = this.events;
    try {
      return events.map((event) => this.record(event));
    } catch (error) {
      restore(this.users, before[0]);
      restore(this.metrics, before[1]);
      restore(this.counts, before[2]);
      restore(this.balances, before[3]);
      this.keys.clear();
      for (const key of before[4]) this.keys.add(key);
      this.awards.length = awards;
      this.events = count;
      throw error;
    }
  }

  private record(event: ModelEvent): Outcome {
    const key = `${event.user} ${event.metric} ${event.key ?? ""}`;
    if (event.key !== null && this.keys.has(key)) return null;
    if (event.key !== null) this.keys.add(key);
    const isNew = !this.users.has(event.user);
    const user = this.users.get(event.user) ?? { zone: "UTC", plan: null };
    this.users.set(event.user, user);
    if (event.plan !== null) user.plan = event.plan;
    this.events += 1;

    const first = this.awards.length;
    if (isNew)
      this.triggers.forEach((trigger, no) => {
        if (trigger.active && trigger.type === "user_creation" && fits(trigger.plan, user.plan))
          this.award(event, user, trigger, no, 1n);
      });
    const metric = raise(this.metrics, `${event.user} ${event.metric}`, event.nanos);
    this.triggers.forEach((trigger, no) => {
      if (!trigger.active || trigger.type !== "metric" || trigger.metric !== event.metric) return;
      if (!fits(trigger.plan, user.plan)) return;
      let { peakBefore, peakAfter } = metric;
      if (trigger.kind !== null) {
        if (trigger.kind !== event.kind) return;
        ({ peakBefore, peakAfter } = raise(this.counts, `${event.user} ${no}`, event.nanos));
      }
      const every = BigInt(trigger.every) * nano;
      const firings = peakAfter / every - peakBefore / every;
      if (firings > 0n) this.award(event, user, trigger, no, firings);
    });
    return { awards: this.awards.slice(first) };
  }

  private award(event: ModelEvent, user: ModelUser, trigger: ModelTrigger, no: number, firings: bigint): void {
    const base = firings * BigInt(trigger.points);
    const day = localDay(event.at, user.zone);
    const boosts =
      base < 0n
        ? []
        : this.boosts.filter(
            (boost) =>
              boost.system === trigger.system &&
              boost.startsOn <= day &&
              (boost.endsOn === null || day <= boost.endsOn) &&
              (boost.user === null || boost.user === event.user) &&
              fits(boost.plan, user.plan),
          );
    const product = boosts.reduce((so_far, boost) => so_far * BigInt(boost.multiplier), 1n);
    const unit = 10_000n ** BigInt(boosts.length);
    const rounding = (["down", "nearest", "up"] as const).find((mode) => boosts.some((b) => b.rounding === mode));
    const exact = base * product; // in units of 1 / unit; positive when boosted
    const rounded =
      rounding === "nearest"
        ? (2n * exact + unit) / (2n * unit)
        : rounding === "up"
          ? (exact + unit - 1n) / unit
          : exact / unit;

    const place = `${event.user} ${trigger.system}`;
    const balance = this.balances.get(place) ?? { total: 0n, sequence: 0 };
    const before = balance.total;
    const max = BigInt(this.maxPoints[trigger.system] ?? most);
    let points = rounded;
    if (points > 0n) points = min(points, before < max ? max - before : 0n);
    else if (before + points < 0n) {
      if (trigger.blocks) throw new OutOfPoints();
      points = -before;
    }
    if (points === 0n) return;
    balance.total += points;
    balance.sequence += 1;
    this.balances.set(place, balance);
    this.awards.push({
      user: event.user,
      system: trigger.system,
      sequence: balance.sequence,
      cause: trigger.type,
      trigger: no,
      at: event.at,
      base,
      product,
      boosts: boosts.length,
      rounding: rounding ?? null,
      rounded,
      points,
      before,
      after: balance.total,
    });
  }
}

function fits(filter: string | null, value: string | null): boolean {
  return filter === null || filter === value;
}

function raise(counts: Map<string, Count>, place: string, nanos: bigint): { peakBefore: bigint; peakAfter: bigint } {
  const count = counts.get(place) ?? { total: 0n, peak: 0n };
  const peakBefore = count.peak;
  const total = count.total + nanos;
  const peakAfter = total > peakBefore ? total : peakBefore;
  counts.set(place, { total, peak: peakAfter });
  return { peakBefore, peakAfter };
}

const formats = new Map<string, Intl.DateTimeFormat>();
/** The date in the zone, as 2024-03-10. */
function localDay(at: string, zone: string): string {
  const format = formats.get(zone) ?? new Intl.DateTimeFormat("en-CA", { timeZone: zone });
  formats.set(zone, format);
  return format.format(new Date(at));
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function restore<V>(map: Map<string, V>, to: Map<string, V>): void {
  map.clear();
  for (const [key, value] of to) map.set(key, value);
}

/** A decimal as text without trailing zeros, from an integer of 10^-digits. */
export function decimal(units: bigint, digits: number): string {
  const sign = units < 0n ? "-" : "";
  const text = (units < 0n ? -units : units).toString().padStart(digits + 1, "0");
  const whole = text.slice(0, text.length - digits);
  const fraction = text.slice(text.length - digits).replace(/0+$/, "");
  return sign + whole + (fraction === "" ? "" : `.${fraction}`);
}
