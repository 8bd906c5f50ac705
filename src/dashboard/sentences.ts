import { count, day, figure } from "./format.ts";

/** What rules will do, in words. Nothing here computes points: it says what was configured. */

/** Attributes with the values they must have. */
export type Filter = Readonly<Record<string, string>>;

/** What a sentence needs of a trigger. */
export interface TriggerInWords {
  readonly type: string;
  readonly points: number | string | null;
  readonly metric?: { readonly name: string; readonly units: string } | undefined;
  readonly metricThreshold?: number | string | null | undefined;
  readonly achievementName?: string | undefined;
  readonly streakLength?: number | string | null | undefined;
  readonly timeUnit?: string | null | undefined;
  readonly timeInterval?: number | string | null | undefined;
  readonly blockIfOutOfPoints?: boolean | undefined;
  readonly userAttributes: Filter;
  readonly eventAttributes: Filter;
}

const gap = "…";
const given = (value: number | string | null | undefined): string =>
  value === null || value === undefined || value === "" ? gap : figure(typeof value === "number" ? value : value.trim());

/** "10 points for every 3 tasks with priority = high, only for users with plan = premium." */
export function triggerSentence(trigger: TriggerInWords): string {
  const amount = Number(trigger.points);
  const isDeduction = amount < 0;
  const points = trigger.points === null || trigger.points === ""
    ? `${gap} points`
    : `${given(String(trigger.points).replace(/^-/, ""))} ${Math.abs(amount) === 1 ? "point" : "points"}`;
  const whom = conditions(trigger.userAttributes);
  const end = `${whom === "" ? "" : `, only for users with ${whom}`}.`;
  const block = isDeduction
    ? trigger.blockIfOutOfPoints === true
      ? " An event that would take a total below 0 is refused."
      : " Totals stop at 0."
    : "";
  return `${isDeduction ? `Takes ${points}` : points} ${occasion(trigger)}${end}${block}`;
}

function occasion(trigger: TriggerInWords): string {
  switch (trigger.type) {
    case "metric": {
      const which = conditions(trigger.eventAttributes);
      return `for every ${amountOf(given(trigger.metricThreshold), trigger.metric)}${which === "" ? "" : ` with ${which}`}`;
    }
    case "streak":
      return `each time a streak reaches a multiple of ${given(trigger.streakLength)}`;
    case "achievement":
      return `when a user completes ${trigger.achievementName === undefined ? gap : `“${trigger.achievementName}”`}`;
    case "time": {
      const unit = trigger.timeUnit === "hours" ? "hour" : "day";
      const interval = given(trigger.timeInterval);
      return `${interval === "1" ? `every ${unit}` : `every ${interval} ${unit}s`}, counted from when the user or the trigger started${unit === "day" ? ", at the same local time" : ""}`;
    }
    case "user_creation":
      return "when a user is first identified";
    default:
      return gap;
  }
}

/** "3 tasks", "task", "1,500 pages of Reading", "2 of Logins": units in the plural say what is counted. */
function amountOf(amount: string, metric: { readonly name: string; readonly units: string } | undefined): string {
  if (metric === undefined) return `${amount} ${gap}`;
  const { name, units } = metric;
  if (units === "") return `${amount} of ${name}`;
  const isSame = units.toLowerCase() === name.toLowerCase();
  const counted = amount === "1" ? singularOf(units) : `${amount} ${units}`;
  return isSame ? counted : `${counted} of ${name}`;
}

/** English plurals, as far as units go. */
function singularOf(plural: string): string {
  if (/[^aeiou]ies$/.test(plural)) return plural.replace(/ies$/, "y");
  if (/(?:s|x|ch|sh)es$/.test(plural)) return plural.replace(/es$/, "");
  return /[^s]s$/.test(plural) ? plural.replace(/s$/, "") : `1 ${plural}`;
}

/** "priority = high and plan = pro" */
export const conditions = (filter: Filter): string =>
  Object.entries(filter).map(([key, value]) => `${key} = ${value === "" ? gap : value}`).join(" and ");

/** What a sentence needs of a boost. */
export interface BoostInWords {
  readonly multiplier: string;
  readonly rounding: string;
  readonly startsOn: string;
  readonly endsOn: string | null;
  readonly userId: string | null;
  readonly userAttributes: Filter;
}

/** "Every award × 2 from 1 May 2026 to 7 May 2026, in each user's own time zone, for users with plan = pro; …" */
export function boostSentence(boost: BoostInWords): string {
  const whom = boost.userId !== null && boost.userId !== ""
    ? `for the user ${boost.userId} alone`
    : conditions(boost.userAttributes) === ""
      ? "for everybody"
      : `for users with ${conditions(boost.userAttributes)}`;
  const when = boost.startsOn === "" ? `from ${gap}` : `from ${day(boost.startsOn)}`;
  const until = boost.endsOn === null || boost.endsOn === "" ? " on" : ` to the end of ${day(boost.endsOn)}`;
  const rounding = boost.rounding === "nearest" ? "to the nearest" : boost.rounding;
  return `Awards × ${boost.multiplier.trim() === "" ? gap : boost.multiplier.trim()} ${whom}, ${when}${until}, by each user's own calendar. The product is rounded ${rounding}.`;
}

/** "Users are Gold from 500 points up." */
export const levelSentence = (name: string, points: string): string =>
  `Users are ${name.trim() === "" ? gap : name.trim()} from ${count(points.trim() === "" ? gap : points.trim(), "point")} up.`;

/** What a sentence needs of an achievement. */
export interface AchievementInWords {
  readonly kind: string;
  readonly metric?: { readonly name: string; readonly units: string } | undefined;
  readonly metricValue: string | null;
  readonly streakLength: number | string | null;
  readonly years: number | string | null;
  readonly key: string | null;
  readonly prerequisites: readonly string[];
  readonly userAttributes: Filter;
  readonly eventAttributes: Filter;
}

/** "When Tasks reaches 100 with priority = high, by users with plan = pro." */
export function achievementSentence(achievement: AchievementInWords): string {
  const whom = conditions(achievement.userAttributes);
  return `${occasionOf(achievement)}${whom === "" ? "" : `, by users with ${whom}`}.`;
}

function occasionOf({ kind, metric, metricValue, streakLength, years, key, prerequisites, eventAttributes }: AchievementInWords): string {
  switch (kind) {
    case "metric": {
      const which = conditions(eventAttributes);
      return `When ${metric?.name ?? gap} reaches ${given(metricValue)}${metric === undefined || metric.units === "" ? "" : ` ${metric.units}`}${which === "" ? "" : ` with ${which}`}`;
    }
    case "streak":
      return `When a streak reaches ${given(streakLength)}`;
    case "api":
      return `When a call says so${key === null || key === "" ? "" : ` (${key})`}`;
    case "achievement":
      return prerequisites.length === 0 ? `When ${gap} are completed` : `When ${prerequisites.map((name) => `“${name}”`).join(" and ")} ${prerequisites.length === 1 ? "is" : "are"} completed`;
    case "anniversary":
      return `${given(years)} ${String(years) === "1" ? "year" : "years"} after sign-up`;
    default:
      return gap;
  }
}
