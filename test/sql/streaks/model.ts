/**
 * The rules of streaks, said a second time and as plainly as possible: a map of periods, walked day by day. Small and
 * slow, for comparing the database with. Dates are ISO texts, which sort as dates do.
 */

export type Frequency = "daily" | "weekly" | "monthly";
export type Kind = "satisfied" | "frozen" | "paused" | "off" | "restored";

export interface ModelRule {
  readonly frequency: Frequency;
  readonly needsAll: boolean;
  /** By metric number; no condition when there is none at all. */
  readonly thresholds: readonly (number | null)[];
  readonly freezes: { readonly start: number; readonly max: number; readonly interval: number | null; readonly amount: number } | null;
}

export interface Run {
  readonly first: string;
  readonly through: string;
  readonly length: number;
}

const dayMs = 86_400_000;
const instantOf = (day: string): Date => new Date(`${day}T00:00:00Z`);
const dayOf = (instant: Date): string => instant.toISOString().slice(0, 10);
export const plusDays = (day: string, days: number): string => dayOf(new Date(instantOf(day).getTime() + days * dayMs));
const weekday = (day: string): number => instantOf(day).getUTCDay();

const formats = new Map<string, Intl.DateTimeFormat>();
/** The date in the zone, as 2024-03-10. */
export function localDay(at: Date, zone: string): string {
  const format = formats.get(zone) ?? new Intl.DateTimeFormat("en-CA", { timeZone: zone });
  formats.set(zone, format);
  return format.format(at);
}

export function periodOf(day: string, frequency: Frequency): string {
  if (frequency === "daily") return day;
  return frequency === "weekly" ? plusDays(day, -weekday(day)) : `${day.slice(0, 8)}01`;
}

export function nextPeriod(period: string, frequency: Frequency): string {
  return periodOf(plusDays(period, frequency === "daily" ? 1 : frequency === "weekly" ? 7 : 31), frequency);
}

const previousPeriod = (period: string, frequency: Frequency): string => periodOf(plusDays(period, -1), frequency);

export class StreakModel {
  readonly kinds = new Map<string, Kind>();
  /** Periods after which a run was ended by hand. */
  readonly cuts = new Set<string>();
  readonly sums = new Map<string, number[]>();
  pauses: { start: string; end: string }[] = [];
  freezes: number;
  longest = 0;
  earnedOn: string;
  settledOn: string;
  /** Whether anything was stored of the user's streak yet: before that nothing is settled by its old calendar. */
  private isKept: boolean;
  readonly rule: ModelRule;
  zone: string;
  daysOff: readonly number[];

  constructor(rule: ModelRule, zone: string, daysOff: readonly number[], today: string) {
    this.rule = rule;
    this.zone = zone;
    this.daysOff = daysOff;
    this.freezes = rule.freezes?.start ?? 0;
    this.earnedOn = today;
    this.settledOn = today;
    this.isKept = rule.freezes !== null && (rule.freezes.start > 0 || rule.freezes.interval !== null);
  }

  private next(period: string): string {
    return nextPeriod(period, this.rule.frequency);
  }

  private period(day: string): string {
    return periodOf(day, this.rule.frequency);
  }

  get current(): string {
    return this.period(this.settledOn);
  }

  /** Maximal stretches of periods that are there, in order. */
  runs(): Run[] {
    const runs: { first: string; through: string; length: number }[] = [];
    for (const period of [...this.kinds.keys()].sort()) {
      const last = runs.at(-1);
      const counts = this.kinds.get(period) === "satisfied" ? 1 : 0;
      if (last !== undefined && this.next(last.through) === period && !this.cuts.has(last.through)) {
        last.through = period;
        last.length += counts;
      } else runs.push({ first: period, through: period, length: counts });
    }
    return runs;
  }

  /** The run that is alive, as of the last settlement. */
  alive(): Run | undefined {
    const last = this.runs().at(-1);
    if (last === undefined || this.cuts.has(last.through)) return undefined;
    return last.through >= previousPeriod(this.current, this.rule.frequency) ? last : undefined;
  }

  private bridge(period: string): Kind | undefined {
    const end = plusDays(this.next(period), -1);
    if (this.pauses.some((pause) => pause.start <= end && pause.end >= period)) return "paused";
    return this.rule.frequency === "daily" && this.daysOff.includes(weekday(period)) ? "off" : undefined;
  }

  settle(at: Date): void {
    const today = localDay(at, this.zone);
    const { freezes } = this.rule;
    for (let day = plusDays(this.settledOn, 1); day <= today; day = plusDays(day, 1)) {
      if (this.period(day) === day) {
        const missed = previousPeriod(day, this.rule.frequency);
        const before = previousPeriod(missed, this.rule.frequency);
        if (!this.kinds.has(missed) && this.kinds.has(before) && !this.cuts.has(before)) {
          const kind = this.bridge(missed);
          if (kind !== undefined) this.kinds.set(missed, kind);
          else if (freezes !== null && this.freezes > 0) {
            this.kinds.set(missed, "frozen");
            this.freezes -= 1;
          }
        }
      }
      if (freezes !== null && freezes.interval !== null && plusDays(this.earnedOn, freezes.interval) === day) {
        this.earnedOn = day;
        this.freezes = Math.max(this.freezes, Math.min(freezes.max, this.freezes + freezes.amount));
      }
      this.settledOn = day;
    }
  }

  /** What the event did: the length of its run now, and those of the runs it was made of; null for nothing. */
  event(metric: number, value: number, occurredAt: Date, now: Date): { length: number; joined: number[]; extends: boolean } | null {
    this.settle(now);
    this.isKept = true;
    const moment = occurredAt < now ? occurredAt : now;
    const local = localDay(moment, this.zone);
    const period = this.period(local < this.settledOn ? local : this.settledOn);
    if (this.kinds.get(period) === "satisfied") return null;
    if (this.rule.thresholds.every((threshold) => threshold === null)) {
      if (value <= 0) return null;
    } else {
      if (this.rule.thresholds[metric] === null) return null;
      const sums = this.sums.get(period) ?? this.rule.thresholds.map(() => -Infinity);
      sums[metric] = Math.max(sums[metric] ?? 0, -1e15) === -1e15 ? value : (sums[metric] ?? 0) + value;
      this.sums.set(period, sums);
      const reached = this.rule.thresholds.flatMap((threshold, no) => (threshold === null ? [] : [(sums[no] ?? 0) >= threshold]));
      if (!(this.rule.needsAll ? reached.every(Boolean) : reached.some(Boolean))) return null;
    }
    const before = this.runs();
    const lengthBefore = this.alive()?.length ?? 0;
    if (this.kinds.get(period) === "frozen" && this.rule.freezes !== null && this.freezes < this.rule.freezes.max) this.freezes += 1;
    this.kinds.set(period, "satisfied");
    this.reach(period, (one) => previousPeriod(one, this.rule.frequency), true);
    this.reach(period, (one) => this.next(one), false);
    const after = this.runs();
    const run = after.find(({ first, through }) => first <= period && period <= through);
    if (run === undefined) throw new Error("the period is in no run");
    this.longest = Math.max(this.longest, run.length);
    return {
      length: run.length,
      joined: before.filter(({ first, through }) => first >= run.first && through <= run.through).map(({ length }) => length),
      extends: (this.alive()?.length ?? 0) > lengthBefore,
    };
  }

  /** Bridges pauses and days off from a period to the next that is there; forwards also to the present. */
  private reach(from: string, step: (period: string) => string, isBack: boolean): void {
    const earliest = [...this.kinds.keys()].sort()[0] ?? from;
    const isLatest = ![...this.kinds.keys()].some((period) => period > from);
    const bridges = new Map<string, Kind>();
    for (let period = step(from); ; period = step(period)) {
      if (this.kinds.has(period)) {
        if (isBack && this.cuts.has(period)) return;
        break;
      }
      if (isBack ? period < earliest : period >= this.current) {
        if (isBack) return;
        break;
      }
      const kind = this.bridge(period);
      if (kind === undefined) {
        if (isBack || !isLatest) return;
        break;
      }
      bridges.set(period, kind);
    }
    for (const [period, kind] of bridges) this.kinds.set(period, kind);
  }

  grant(now: Date): boolean {
    this.settle(now);
    this.isKept = true;
    if (this.rule.freezes === null || this.freezes >= this.rule.freezes.max) return false;
    this.freezes += 1;
    return true;
  }

  pause(start: string, end: string, now: Date): boolean {
    this.settle(now);
    this.isKept = true;
    if (end < start || start < this.settledOn || this.pauses.some((one) => one.start <= end && one.end >= start)) return false;
    this.pauses.push({ start, end });
    return true;
  }

  reset(now: Date): boolean {
    this.settle(now);
    this.isKept = true;
    const run = this.alive();
    if (run === undefined) return false;
    this.cuts.add(run.through);
    return true;
  }

  restore(now: Date): boolean {
    this.settle(now);
    this.isKept = true;
    const runs = this.runs();
    const alive = this.alive();
    const lost = runs.at(alive === undefined ? -1 : -2);
    const year = Number(this.settledOn.slice(0, 4));
    const since =
      this.rule.frequency === "daily" ? plusDays(this.settledOn, -90)
      : this.rule.frequency === "weekly" ? periodOf(`${year}-01-01`, "weekly") : `${year - 1}-01-01`;
    if (lost === undefined) return false;
    const lastSatisfied = [...this.kinds].filter(([period, kind]) => kind === "satisfied" && period <= lost.through).map(([period]) => period).sort().at(-1) ?? "";
    if (lastSatisfied < since) return false;
    this.cuts.delete(lost.through);
    for (let period = this.next(lost.through); period < (alive?.first ?? this.current); period = this.next(period)) this.kinds.set(period, "restored");
    this.longest = Math.max(this.longest, this.alive()?.length ?? 0);
    return true;
  }

  /** Moves to another zone: what its clocks skip or cut short costs nothing. */
  move(zone: string, now: Date): void {
    this.settle(now);
    const before = this.period(localDay(now, this.zone));
    const after = this.period(localDay(now, zone));
    const alive = this.alive();
    this.zone = zone;
    if (!this.isKept) this.settledOn = localDay(now, zone);
    if (alive !== undefined) for (let period = this.next(alive.through); before < after && period < after; period = this.next(period)) this.kinds.set(period, "off");
  }

  history(periods: number): { periodStart: string; length: number; usedPause: boolean; usedFreeze: boolean }[] {
    const runs = this.runs();
    const shown: { periodStart: string; length: number; usedPause: boolean; usedFreeze: boolean }[] = [];
    for (let period = this.current; shown.length < periods; period = previousPeriod(period, this.rule.frequency)) {
      const run = runs.find(({ first, through }) => first <= period && period <= through);
      const length = run === undefined ? 0 : [...this.kinds].filter(([one, kind]) => kind === "satisfied" && one >= run.first && one <= period).length;
      shown.unshift({ periodStart: period, length, usedPause: this.kinds.get(period) === "paused", usedFreeze: this.kinds.get(period) === "frozen" });
    }
    return shown;
  }
}
