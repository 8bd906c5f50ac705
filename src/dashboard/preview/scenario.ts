import type { z } from "zod";
import type { previewAnswer } from "../../rest/admin/insight_answers.ts";
import type { System, TriggerRow } from "../records.ts";
import type { Filter } from "../sentences.ts";
import { keptUntilSignOut } from "../session.ts";
import { createStore, type Store } from "../stores.ts";

/** What a preview answers. */
export type Preview = z.output<typeof previewAnswer>;
export type PreviewKind = Preview["kinds"][number];

/** A stream of events of one kind of user, as typed. */
export interface Stream {
  readonly metric: string;
  readonly attributes: Filter;
  readonly least: string;
  readonly most: string;
}

/** A kind of user, as typed. */
export interface Kind {
  readonly name: string;
  readonly users: string;
  /** Share of the days on which such a user does anything, in percent. */
  readonly activeDays: string;
  readonly attributes: Filter;
  readonly streams: readonly Stream[];
}

/** Whom rules are tried on, as typed. */
export interface Scenario {
  readonly days: string;
  readonly kinds: readonly Kind[];
}

/** Scenarios by system: the preview's own screen edits what previews beside forms use, too. */
const scenarios = keptUntilSignOut<string, Store<Scenario>>();

export function scenarioOf(system: System): Store<Scenario> {
  const known = scenarios.get(system.id);
  if (known !== undefined) return known;
  const made = createStore(firstScenario(system));
  scenarios.set(system.id, made);
  return made;
}

/** What a system's triggers count: metrics, each with the event attributes that some trigger asks for. */
export function streamsOf(triggers: readonly Pick<TriggerRow, "type" | "metric" | "eventAttributes">[]): readonly Pick<Stream, "metric" | "attributes">[] {
  const found = new Map<string, Pick<Stream, "metric" | "attributes">>();
  for (const { type, metric, eventAttributes } of triggers) {
    if (type !== "metric" || metric === null) continue;
    found.set(JSON.stringify([metric.key, eventAttributes]), { metric: metric.key, attributes: eventAttributes });
  }
  return [...found.values()];
}

const manners = [
  { name: "Casual", users: "20", activeDays: "30", least: "1", most: "2" },
  { name: "Regular", users: "20", activeDays: "60", least: "1", most: "4" },
  { name: "Keen", users: "20", activeDays: "90", least: "3", most: "8" },
] as const;

/** Three kinds of users that do what the system's triggers count, the keenest with the attributes that they ask for. */
function firstScenario(system: System): Scenario {
  const streams = streamsOf(system.triggers.nodes);
  const asked = Object.assign({}, ...system.triggers.nodes.map(({ userAttributes }) => userAttributes)) as Filter;
  return {
    days: "30",
    kinds: manners.map(({ name, users, activeDays, least, most }, index) => ({
      name, users, activeDays,
      attributes: index === manners.length - 1 ? asked : {},
      streams: streams.map((stream) => ({ ...stream, least, most })),
    })),
  };
}

/** Changes that are not saved yet, in the admin API's shapes. */
export interface Draft {
  readonly maxPoints?: unknown;
  readonly triggers?: readonly object[];
  readonly boosts?: readonly object[];
  readonly levels?: readonly object[];
}

export const numberOf = (text: string): number | string => (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text);

/** Percent as a share, without the digits that a division of doubles adds. */
const shareOf = (percent: string): number | string => {
  const given = numberOf(percent);
  return typeof given === "number" ? Number((given / 100).toFixed(9)) : given;
};

/** The scenario as the API takes it. What is no number goes as it was typed: the server says what is wrong. */
export function requestOf({ days, kinds }: Scenario, draft?: Draft): object {
  return {
    days: numberOf(days),
    seed: 1,
    kinds: kinds.map(({ name, users, activeDays, attributes, streams }) => ({
      name,
      users: numberOf(users),
      activeDays: shareOf(activeDays),
      attributes,
      // All of them, in order: the server names the one that it refuses by its place.
      events: streams.map(({ metric, attributes: own, least, most }) => ({
        metric,
        perDay: least === most ? numberOf(least) : [numberOf(least), numberOf(most)],
        ...(Object.keys(own).length === 0 ? {} : { attributes: own }),
      })),
    })),
    ...(draft === undefined ? {} : { draft }),
  };
}
