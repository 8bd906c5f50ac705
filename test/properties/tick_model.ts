/**
 * Time triggers as rule TR5 has them, without a database: one clock for each user and activation, ticks in the order in which
 * they fall due, and clocks that rest while their user can neither gain nor lose. Moments are milliseconds.
 */

export interface TickWorld {
  readonly triggers: readonly {
    readonly system: number;
    readonly unit: "hours" | "days";
    readonly interval: number;
    readonly points: number;
    readonly plan: string | null;
    readonly activated: number;
  }[];
  readonly users: readonly { readonly zone: string; readonly plan: string; readonly created: number }[];
  readonly caps: readonly [number | null, number | null];
  /** Of the first system: ×1.5, rounded up. */
  readonly boost: { readonly from: number; readonly days: number } | null;
}

export interface Clock {
  readonly start: number;
  readonly unit: "hours" | "days";
  readonly interval: number;
}

const hour = 3_600_000;
const day = 24 * hour;
const formats = new Map<string, Intl.DateTimeFormat>();

/** What a wall clock shows, as if it were UTC. */
export function toLocal(moment: number, zone: string): number {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat("en-US", {
      timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric",
    });
    formats.set(zone, format);
  }
  const part = Object.fromEntries(format.formatToParts(moment).map(({ type, value }) => [type, Number(value)]));
  const { year = 0, month = 1, day: date = 1, hour: hours = 0, minute = 0, second = 0 } = part;
  return Date.UTC(year, month - 1, date, hours, minute, second) + (((moment % 1000) + 1000) % 1000);
}

/** The moment of a wall clock's time; one that is skipped or repeated is read as standard time. */
function fromLocal(local: number, zone: string): number {
  const offsets = [local - day, local + day].map((near) => toLocal(near, zone) - near);
  const valid = offsets.filter((offset) => toLocal(local - offset, zone) === local);
  return local - Math.min(...(valid.length === 0 ? offsets : valid));
}

export function dueAt(clock: Clock, zone: string, tick: number): number {
  return clock.unit === "hours"
    ? clock.start + tick * clock.interval * hour
    : fromLocal(toLocal(clock.start, zone) + tick * clock.interval * day, zone);
}

/** How many ticks are due by a moment: counted, one after the other. */
export function dueBy(clock: Clock, zone: string, moment: number): number {
  let ticks = Math.max(0, Math.floor((moment - clock.start) / (clock.interval * (clock.unit === "hours" ? hour : day))) - 2);
  while (dueAt(clock, zone, ticks + 1) <= moment) ticks += 1;
  return ticks;
}

interface Span {
  readonly trigger: number;
  readonly activated: number;
  readonly begins: number;
  ends: number;
  readonly points: number;
  readonly plan: string | null;
  /** Whether all users' clocks were looked at since it began. */
  isLooked: boolean;
  looksFrom: number;
}

interface UserClock extends Clock {
  readonly trigger: number;
  readonly activated: number;
  last: number;
  runs: boolean;
}

/** A ledger row: the trigger's number and the tick's moment, both null for an adjustment. */
export interface Entry {
  readonly trigger: number | null;
  readonly at: number | null;
  readonly points: number;
}

interface User {
  zone: string;
  plan: string;
  readonly created: number;
  readonly totals: [number, number];
  readonly ledgers: [Entry[], Entry[]];
  readonly clocks: UserClock[];
}

const largest = Number.MAX_SAFE_INTEGER;

export class TickModel {
  readonly #world: TickWorld;
  readonly #now: number;
  #changes = 0;
  readonly #users: User[];
  readonly #spans: Span[] = [];
  readonly #caps: [number | null, number | null];
  /** Up to when ticks of a span were applied ahead. */
  #appliedUntil = new Map<Span, number>();

  constructor(world: TickWorld, now: number) {
    this.#world = world;
    this.#now = now;
    this.#caps = [...world.caps];
    this.#users = world.users.map(({ zone, plan, created }) => ({
      zone, plan, created: now - created, totals: [0, 0], ledgers: [[], []], clocks: [],
    }));
    world.triggers.forEach(({ points, plan, activated }, trigger) => {
      this.#spans.push({
        trigger, activated: now - activated, begins: now - activated, ends: Infinity, points, plan, isLooked: false, looksFrom: now - activated,
      });
    });
  }

  ledger(user: number, system: number): readonly Entry[] {
    return this.#users[user]?.ledgers[system as 0 | 1] ?? [];
  }

  run(asOf: number): void {
    for (const span of this.#unlooked()) {
      for (const user of this.#users) this.#start(user, span, span.looksFrom);
      span.isLooked = true;
    }
    for (const user of this.#users) this.#applyDue(user, asOf);
    if (asOf > this.#now) {
      for (const span of this.#open()) this.#appliedUntil.set(span, Math.max(this.#appliedUntil.get(span) ?? -Infinity, asOf));
    }
  }

  adjust(no: number, system: number, points: number): void {
    const user = this.#users[no];
    if (user === undefined) return;
    const before = user.totals[system as 0 | 1];
    if (!this.#add(user, system, points, null, null)) return;
    if (before === 0 || before >= (this.#caps[system as 0 | 1] ?? largest)) {
      for (const span of this.#open()) if (this.#systemOf(span) === system) this.#start(user, span, this.#now);
    }
  }

  changeProfile(no: number, zone: string, plan: string): void {
    const user = this.#users[no];
    if (user === undefined || (user.zone === zone && user.plan === plan)) return;
    for (const span of this.#unlooked()) this.#start(user, span, span.looksFrom);
    // Who could gain nothing until now is not given later what was due before.
    for (const span of this.#unlooked()) {
      const clock = this.#clockOf(user, span);
      if (!user.clocks.includes(clock)) user.clocks.push({ ...clock, last: dueBy(clock, user.zone, this.#now) });
    }
    this.#applyDue(user, this.#now);
    user.zone = zone;
    user.plan = plan;
    for (const span of this.#open()) this.#start(user, span, this.#now);
  }

  toggle(trigger: number): void {
    const open = this.#open().find((span) => span.trigger === trigger);
    if (open !== undefined) {
      open.ends = this.#moment();
    } else {
      const points = this.#spans.findLast((span) => span.trigger === trigger)?.points ?? 0;
      const rule = this.#ruleOf(trigger, this.#edited.get(trigger) ?? points);
      this.#spans.push({ ...rule, activated: rule.begins });
    }
  }

  /** The moment of a change of configuration: now, each a little after the one before. */
  #moment(): number {
    this.#changes += 1;
    return this.#now + this.#changes / 100;
  }

  readonly #edited = new Map<number, number>();

  edit(trigger: number, points: number): void {
    this.#edited.set(trigger, points);
    const open = this.#open().find((span) => span.trigger === trigger);
    if (open === undefined || open.points === points) return;
    const rule = this.#ruleOf(trigger, points);
    const next = { ...rule, activated: open.activated, looksFrom: open.isLooked ? rule.begins : open.looksFrom };
    open.ends = next.begins;
    this.#spans.push(next);
    const applied = this.#appliedUntil.get(open);
    if (applied !== undefined) this.#appliedUntil.set(next, applied);
  }

  changeCap(system: number, max: number | null): void {
    if (this.#caps[system as 0 | 1] === max) return;
    this.#caps[system as 0 | 1] = max;
    for (const span of this.#open()) {
      if (this.#systemOf(span) !== system) continue;
      if (span.isLooked) span.looksFrom = this.#now;
      span.isLooked = false;
    }
  }

  #ruleOf(trigger: number, points: number): Omit<Span, "activated"> {
    const begins = this.#moment();
    return { trigger, begins, ends: Infinity, points, plan: this.#world.triggers[trigger]?.plan ?? null, isLooked: false, looksFrom: begins };
  }

  #open(): Span[] {
    return this.#spans.filter(({ ends }) => ends === Infinity);
  }

  #unlooked(): Span[] {
    return this.#spans.filter(({ isLooked }) => !isLooked);
  }

  #systemOf({ trigger }: { readonly trigger: number }): number {
    return this.#world.triggers[trigger]?.system ?? 0;
  }

  #canChange(user: User, span: Span): boolean {
    const system = this.#systemOf(span) as 0 | 1;
    if (span.plan !== null && span.plan !== user.plan) return false;
    return span.points > 0 ? user.totals[system] < (this.#caps[system] ?? largest) : user.totals[system] > 0;
  }

  #clockOf(user: User, span: Span): UserClock {
    const known = user.clocks.find(({ trigger, activated }) => trigger === span.trigger && activated === span.activated);
    const rule = this.#world.triggers[span.trigger];
    return known ?? {
      trigger: span.trigger, activated: span.activated, start: Math.max(span.activated, user.created),
      unit: rule?.unit ?? "hours", interval: rule?.interval ?? 1, last: 0, runs: false,
    };
  }

  /** Starts a resting clock with the first tick after a moment, or where the look would that has not come yet. */
  #start(user: User, span: Span, moment: number): void {
    const clock = this.#clockOf(user, span);
    const isKnown = user.clocks.includes(clock);
    if (clock.runs || (isKnown && span.ends < Infinity) || !this.#canChange(user, span)) return;
    const from = Math.max(span.isLooked ? moment : span.looksFrom, this.#appliedUntil.get(span) ?? -Infinity);
    const last = Math.max(clock.last, dueBy(clock, user.zone, from));
    if (dueAt(clock, user.zone, last + 1) >= span.ends) return;
    Object.assign(clock, { last, runs: true });
    if (!isKnown) user.clocks.push(clock);
  }

  #applyDue(user: User, asOf: number): void {
    const endOf = (clock: UserClock): number =>
      Math.max(...this.#spans.filter(({ trigger, activated }) => trigger === clock.trigger && activated === clock.activated).map(({ ends }) => ends));
    const nextOf = (clock: UserClock): number => dueAt(clock, user.zone, clock.last + 1);
    const part: UserClock[] = user.clocks.filter((clock) => clock.runs && nextOf(clock) <= asOf);
    // Clocks that rest take part from the first due tick of their system on.
    for (const system of [0, 1]) {
      const first = Math.min(...part.filter((clock) => this.#systemOf(clock) === system && nextOf(clock) < endOf(clock)).map(nextOf));
      if (first === Infinity) continue;
      for (const span of this.#open()) {
        const clock = this.#clockOf(user, span);
        if (this.#systemOf(span) !== system || clock.runs || (span.plan !== null && span.plan !== user.plan)) continue;
        const last = Math.max(clock.last, dueBy(clock, user.zone, Math.max(first, this.#appliedUntil.get(span) ?? -Infinity)));
        const joining = { ...clock, last };
        part.push(joining);
      }
    }
    const ticks = part.flatMap((clock) => {
      const found = [];
      for (let tick = clock.last + 1; ; tick += 1) {
        const due = dueAt(clock, user.zone, tick);
        if (due > asOf || due >= endOf(clock)) break;
        found.push({ clock, tick, due });
      }
      return found;
    });
    ticks.sort((a, b) => a.due - b.due || a.clock.trigger - b.clock.trigger || a.clock.activated - b.clock.activated || a.tick - b.tick);
    for (const { clock, due } of ticks) {
      const span = this.#spans.find(({ trigger, activated, begins, ends }) =>
        trigger === clock.trigger && activated === clock.activated && begins <= due && due < ends);
      if (span === undefined || (span.plan !== null && span.plan !== user.plan)) continue;
      const system = this.#systemOf(span);
      let points = span.points;
      const { boost } = this.#world;
      if (points > 0 && boost !== null && system === 0) {
        const on = new Date(toLocal(due, user.zone)).toISOString().slice(0, 10);
        const from = new Date(this.#now + boost.from * day).toISOString().slice(0, 10);
        const to = new Date(this.#now + (boost.from + boost.days) * day).toISOString().slice(0, 10);
        if (on >= from && on <= to) points = Math.ceil(points * 1.5);
      }
      this.#add(user, system, points, clock.trigger, due);
    }
    for (const clock of part) {
      const own = ticks.filter((tick) => tick.clock === clock);
      const known = user.clocks.find(({ trigger, activated }) => trigger === clock.trigger && activated === clock.activated);
      const open = this.#open().find(({ trigger, activated }) => trigger === clock.trigger && activated === clock.activated);
      const next = dueAt(clock, user.zone, (own.at(-1)?.tick ?? clock.last) + 1);
      // What has ended and is not due yet is found to be over when it is looked at next.
      const runs = next < endOf(clock) && (open === undefined || this.#canChange(user, open));
      if (known?.runs !== true && own.length === 0 && !runs) continue;
      const last = own.at(-1)?.tick ?? clock.last;
      if (known === undefined) user.clocks.push({ ...clock, last, runs });
      else Object.assign(known, { last, runs });
    }
  }

  /** Adds points within cap and floor; whether that changed anything. */
  #add(user: User, system: number, points: number, trigger: number | null, at: number | null): boolean {
    const before = user.totals[system as 0 | 1];
    const added = points >= 0 ? Math.min(points, Math.max((this.#caps[system as 0 | 1] ?? largest) - before, 0)) : Math.max(points, -before);
    if (added === 0) return false;
    user.totals[system as 0 | 1] = before + added;
    user.ledgers[system as 0 | 1].push({ trigger, at, points: added });
    return true;
  }
}
