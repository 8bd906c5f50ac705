import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { refusal } from "../../support/engine.ts";
import {
  aBoost, aLevel, aMetric, anAchievement, anAttribute, aSystem, aTenant, aTrigger, type Database, type System,
} from "../../support/factories.ts";
import { lr } from "../../support/refusals.ts";
import { countAll, preview, type Scenario } from "../../support/scenarios.ts";

/** Rule D1, with numbers worked by hand. The comparison with really recorded events: test/properties/preview.test.ts. */

const kind = (values: object = {}): Scenario["kinds"][number] => ({
  name: "Writers", users: 10, events: [{ metric: "words", perDay: 1 }], ...values,
});
const scenario = (values: object = {}, kinds = [kind()]): Scenario => ({ days: 3, start: "2026-01-01", kinds, ...values });

interface World {
  readonly db: Database;
  readonly xp: System;
  readonly words: { id: string };
  readonly trigger: { id: string };
  readonly plan: { id: string };
}

/** 10 points for every word. */
const withWorld = (work: (world: World) => Promise<void>, maxPoints: number | null = null): Promise<void> =>
  withRollback(async (db) => {
    const plan = await anAttribute(db, { key: "plan", type: "user" });
    await anAttribute(db, { key: "kind", type: "event" });
    const words = await aMetric(db, { key: "words" });
    const xp = await aSystem(db, { key: "xp", max_points: maxPoints });
    const trigger = await aTrigger(db, { system: xp, metric: words, points: 10 });
    await work({ db, xp, words, trigger, plan });
  });

const totals = ({ totals: days }: { totals: readonly { p50: number }[] }): number[] => days.map(({ p50 }) => p50);

describe("a preview", () => {
  test("tells totals by day, firings and points by trigger, for all users of the kind", async () => {
    await withWorld(async ({ db, trigger }) => {
      const { kinds: [found], ...rest } = await preview(db, "xp", scenario());
      expect(rest).toEqual({ days: 3, start: "2026-01-01", seed: 0 });
      expect(found).toMatchObject({ name: "Writers", users: 10, simulatedUsers: 1, events: 30, refusedEvents: 0, lost: { rounding: 0, cap: 0, floor: 0 } });
      expect(found?.totals).toEqual([
        { day: 1, date: "2026-01-01", p10: 10, p50: 10, p90: 10 },
        { day: 2, date: "2026-01-02", p10: 20, p50: 20, p90: 20 },
        { day: 3, date: "2026-01-03", p10: 30, p50: 30, p90: 30 },
      ]);
      expect(found?.byTrigger).toMatchObject([{ trigger: { id: trigger.id, type: "metric", points: 10 }, firings: 30, awarded: 300 }]);
    });
  });

  test("counts what rounding, cap and floor take, awards that came to nothing included", async () => {
    await withWorld(async ({ db, xp, words }) => {
      await aBoost(db, { system: xp, multiplier: 1.25, starts_on: "2026-01-02" });
      await aTrigger(db, { system: xp, metric: words, points: -50 });
      // Day 1: 10, then the floor lets 10 of 50 be taken. Days 2 and 3: 12.5 → 12, 12 of 50; never at the cap.
      const before = (await preview(db, "xp", scenario())).kinds[0];
      expect(totals(before ?? { totals: [] })).toEqual([0, 0, 0]);
      expect(before?.lost).toEqual({ rounding: 10, cap: 0, floor: 10 * (40 + 38 + 38) });
      // Cap 15: 10, then 5 of 12, then 0 of 12; the deduction takes all, so a draft without it.
      const capped = (await preview(db, "xp", scenario({ draft: { maxPoints: 15, triggers: [{ id: before?.byTrigger[1]?.trigger.id, status: "inactive" }] } }))).kinds[0];
      expect(totals(capped ?? { totals: [] })).toEqual([10, 15, 15]);
      expect(capped?.lost).toEqual({ rounding: 10, cap: 10 * (7 + 12), floor: 0 });
      expect(capped?.byTrigger).toMatchObject([{ firings: 30, awarded: 150 }]);
    });
  });

  test("says when levels are reached and by what share", async () => {
    await withWorld(async ({ db, xp }) => {
      for (const [key, points] of [["none", 0], ["some", 11], ["many", 31]] as const) await aLevel(db, { system: xp, key, points });
      expect((await preview(db, "xp", scenario())).kinds[0]?.levels).toEqual([
        { key: "none", share: 1, medianDay: 1 },
        { key: "some", share: 1, medianDay: 2 },
        { key: "many", share: 0, medianDay: null },
      ]);
    });
  });

  test("fires for new users and for achievements on their day", async () => {
    await withWorld(async ({ db, xp }) => {
      await aTrigger(db, { system: xp, type: "user_creation", points: 7 });
      const done = await anAchievement(db, { key: "done" });
      await aTrigger(db, { system: xp, type: "achievement", achievement_id: done.id, points: 100 });
      const found = await preview(db, "xp", scenario({}, [kind({ achievements: [{ key: "done", day: 2 }] })]));
      expect(totals(found.kinds[0] ?? { totals: [] })).toEqual([17, 127, 137]);
    });
  });

  test("knows active days: weekdays, and fractions of an event a day", async () => {
    await withWorld(async ({ db }) => {
      // 2026-01-01 is a Thursday (4).
      const found = await preview(db, "xp", scenario({ days: 5 }, [
        kind({ activeDays: [5, 6] }),
        kind({ events: [{ metric: "words", perDay: 0.5 }] }),
        kind({ activeDays: 0 }),
      ]));
      expect(found.kinds.map(totals)).toEqual([[0, 10, 20, 20, 20], [0, 10, 10, 20, 20], [0, 0, 0, 0, 0]]);
    });
  });

  test("judges filters, boosts and days by each kind's attributes and time zone", async () => {
    await withWorld(async ({ db, xp, words }) => {
      await aBoost(db, { system: xp, multiplier: 3, starts_on: "2026-01-02", ends_on: "2026-01-02", user_attributes: { plan: "pro" } });
      await aTrigger(db, { system: xp, metric: words, points: 1, event_attributes: { kind: "long" } });
      const found = await preview(db, "xp", scenario({}, ["Pacific/Kiritimati", "Pacific/Pago_Pago"].flatMap((tz) => [
        kind({ tz, attributes: { plan: "pro" } }),
        kind({ tz, attributes: { plan: "free" }, events: [{ metric: "words", perDay: 1, attributes: { kind: "long" } }] }),
      ])));
      expect(found.kinds.map(totals)).toEqual([[10, 40, 50], [11, 22, 33], [10, 40, 50], [11, 22, 33]]);
    });
  });

  test("refuses events that a trigger blocks one by one, as a batch does", async () => {
    await withWorld(async ({ db, xp }) => {
      const lessons = await aMetric(db, { key: "lessons" });
      await aTrigger(db, { system: xp, metric: lessons, points: -4, block_if_out_of_points: true });
      // 10 a day for words at 15:00; lessons at 8:56, 10:48 …: the first day the first three come too early.
      const found = await preview(db, "xp", scenario({ days: 2 }, [
        kind({ events: [{ metric: "words", perDay: 1 }, { metric: "lessons", perDay: 7 }] }),
      ]));
      // Day 1: 3 refused, then 15:00 is shared: the word comes first, 10 - 4 - 4 = 2, then 2 refused.
      // Day 2: 2 pays for none of the first three, 12 - 4 - 4 - 4 = 0, the seventh is refused.
      expect(totals(found.kinds[0] ?? { totals: [] })).toEqual([2, 0]);
      expect(found.kinds[0]).toMatchObject({ events: 160, refusedEvents: 10 * (5 + 4) });
    });
  });

  test("lets systems that can refuse an event take part", async () => {
    await withWorld(async ({ db, words }) => {
      const energy = await aSystem(db, { key: "energy" });
      await aTrigger(db, { system: energy, metric: words, points: -1, block_if_out_of_points: true });
      expect((await preview(db, "xp", scenario())).kinds[0]).toMatchObject({ refusedEvents: 30, totals: [{ p50: 0 }, { p50: 0 }, { p50: 0 }] });
      await aTrigger(db, { system: energy, type: "user_creation", points: 2 });
      expect((await preview(db, "xp", scenario())).kinds[0]).toMatchObject({ refusedEvents: 10, totals: [{ p50: 10 }, { p50: 20 }, { p50: 20 }] });
    });
  });

  test("runs far in the future and in the past alike", async () => {
    await withWorld(async ({ db }) => {
      for (const start of ["2001-02-03", "2099-12-31"]) {
        expect((await preview(db, "xp", scenario({ start }))).kinds.map(totals)).toEqual([[10, 20, 30]]);
      }
      const today = (await preview(db, "xp", { days: 1, kinds: [kind()] })).start;
      expect(today).toBe((await db.query<{ d: string }>("select ((now() at time zone 'UTC')::date)::text as d")).rows[0]?.d);
    });
  });
});

describe("drafts", () => {
  test("are laid over the saved rules: changed by ID, added without, active unless said otherwise", async () => {
    await withWorld(async ({ db, xp, words, trigger, plan }) => {
      const asleep = await aTrigger(db, { system: xp, metric: words, points: 1000, status: "inactive" });
      const level = await aLevel(db, { system: xp, key: "low", points: 5 });
      const boost = await aBoost(db, { system: xp, multiplier: 2, is_active: false });
      const draft = {
        triggers: [
          { id: trigger.id, points: 20 },
          { id: asleep.id, points: 100 },
          { type: "metric", points: 1, metricId: words.id, metricThreshold: 2, userAttributes: [{ attributeId: plan.id, attributeValue: "pro" }] },
          { type: "user_creation", points: 5, status: "inactive" },
        ],
        boosts: [{ id: boost.id, multiplier: 3 }],
        levels: [{ id: level.id, points: 100 }, { name: "Top", key: "top", points: 500 }],
      };
      const { kinds: [found] } = await preview(db, "xp", scenario({ days: 2, draft }, [kind({ attributes: { plan: "pro" } })]));
      // (20 + 100) × 3 a day, and 1 × 3 at the second word.
      expect(totals(found ?? { totals: [] })).toEqual([360, 723]);
      expect(found?.byTrigger.map(({ trigger: { id, draft: no }, awarded }) => [id, no, awarded])).toEqual([
        [trigger.id, undefined, 1200], [asleep.id, undefined, 6000], [undefined, 2, 30],
      ]);
      expect(found?.levels.map(({ key, medianDay }) => [key, medianDay])).toEqual([["low", 1], ["top", 2]]);
      // The saved ones are as they were.
      expect((await preview(db, "xp", scenario({ days: 2 }))).kinds.map(totals)).toEqual([[10, 20]]);
    });
  });

  test("levels may change places", async () => {
    await withWorld(async ({ db, xp }) => {
      const a = await aLevel(db, { system: xp, key: "a", points: 10 });
      const b = await aLevel(db, { system: xp, key: "b", points: 20 });
      const found = await preview(db, "xp", scenario({ draft: { levels: [{ id: a.id, points: 20 }, { id: b.id, points: 10 }] } }));
      expect(found.kinds[0]?.levels).toMatchObject([{ key: "b", medianDay: 1 }, { key: "a", medianDay: 2 }]);
    });
  });

  test("that break a rule are refused, naming the place", async () => {
    await withWorld(async ({ db, xp, words }) => {
      await aLevel(db, { system: xp, key: "low", points: 5 });
      const cases: readonly (readonly [object, string])[] = [
        [{ triggers: [{ type: "metric", points: 0, metricId: words.id, metricThreshold: 1 }] }, "scenario.draft.triggers[0]: A trigger's points cannot be 0."],
        [{ triggers: [{ type: "streak", points: 1 }] }, "scenario.draft.triggers[0]: A streak trigger, and no other, has a streak length."],
        [{ triggers: [{ points: 1 }] }, "scenario.draft.triggers[0]: type is required."],
        [{ levels: [{ name: "L", key: "low", points: 7 }] }, "scenario.draft.levels[0]: Another level of this points system already has this key."],
        [{ levels: [{ name: "L", key: "other", points: 5 }] }, "scenario.draft.levels: two levels have the same points."],
        [{ boosts: [{ name: "B", start: "2026-01-01", multiplier: 1 }] }, "scenario.draft.boosts[0]: A boost's multiplier is above 0, below 100 and not 1."],
        [{ boosts: [{ name: "B", start: "2026-01-01", multiplier: 2, userId: "ann" }] }, "scenario.draft.boosts[0]: a boost of one user has no part in a preview."],
        [{ triggers: [{ id: "00000000-0000-7000-8000-000000000000", points: 1 }] }, "scenario.draft.triggers[0]: nothing here has the ID 00000000-0000-7000-8000-000000000000."],
      ];
      for (const [draft, message] of cases) {
        expect(await refusal(db, () => preview(db, "xp", scenario({ draft })))).toEqual(lr("LR060", message));
      }
    });
  });

  test("know nothing of other tenants' configuration", async () => {
    await withWorld(async ({ db, words, plan }) => {
      const other = await aTenant(db);
      await db.query("select set_config('laurel.tenant', $1, true)", [other]);
      await anAttribute(db, { key: "plan", type: "user" });
      await aSystem(db, { key: "theirs" });
      for (const trigger of [
        { type: "metric", points: 1, metricId: words.id, metricThreshold: 1 },
        { type: "user_creation", points: 1, userAttributes: [{ attributeId: plan.id, attributeValue: "x" }] },
      ]) {
        expect(await refusal(db, () => preview(db, "theirs", scenario({ kinds: [kind({ events: [] })], draft: { triggers: [trigger] } }))))
          .toEqual(lr("LR060", "nothing here has the ID"));
      }
      expect(await refusal(db, () => preview(db, "xp", scenario()))).toEqual(lr("LR004"));
    });
  });
});

describe("randomness", () => {
  const random = (seed: number | null): Scenario => scenario({ days: 30, seed }, [
    kind({ users: 40, activeDays: 0.5, events: [{ metric: "words", perDay: [0, 4] }] }),
  ]);

  test("comes from the seed alone", async () => {
    await withWorld(async ({ db }) => {
      const first = await preview(db, "xp", random(1));
      await db.query("select setseed(0.5), random()");
      expect(await preview(db, "xp", random(1))).toEqual(first);
      expect((await preview(db, "xp", random(2))).kinds).not.toEqual(first.kinds);
      expect((await preview(db, "xp", random(null))).seed).toBe(0);
    });
  });

  test("is fair: half of the days, two events on each", async () => {
    await withWorld(async ({ db }) => {
      const { kinds: [found] } = await preview(db, "xp", random(3));
      // 40 users × 30 days × ½ × 2 = 1,200; the standard deviation is below 50.
      expect(Math.abs((found?.events ?? 0) - 1200)).toBeLessThan(200);
      const last = found?.totals.at(-1);
      expect(last?.p10).toBeLessThan(last?.p50 ?? 0);
      expect(last?.p50).toBeLessThan(last?.p90 ?? 0);
    });
  });
});

describe("nothing remains", () => {
  test("of a preview, in any table or sequence, nor of one that fails midway", async () => {
    await withWorld(async ({ db }) => {
      const before = await countAll(db);
      await preview(db, "xp", scenario({ draft: { triggers: [{ type: "user_creation", points: 1 }] } }));
      expect(await countAll(db)).toEqual(before);
      await refusal(db, () => preview(db, "xp", scenario({ draft: { levels: [{ name: "", key: "x", points: 1 }] } })));
      expect(await countAll(db)).toEqual(before);
      expect((await db.query("select current_setting('laurel.tenant', true) as t, current_setting('laurel_private.sandbox', true) as s")).rows)
        .not.toContainEqual(expect.objectContaining({ t: expect.stringContaining("sandbox") }));
      expect((await db.query("select from laurel.verify()")).rowCount).toBe(0);
    });
  });

  test("and the setting alone does not make a ledger keep awards of 0", async () => {
    await withWorld(async ({ db, xp }) => {
      await db.query("select set_config('laurel_private.sandbox', laurel.current_tenant_id()::text, true)");
      for (let n = 0; n < 3; n += 1) await db.query("select laurel.record_event('words', 'ann')");
      const found = await db.query("select points from laurel.points_awards where system_id = $1 order by sequence", [xp.id]);
      expect(found.rows).toEqual([{ points: "10" }, { points: "5" }]);
    }, 15);
  });
});

describe("wrong scenarios are refused, naming the place", () => {
  const at = (path: readonly (string | number)[], value: unknown): unknown => {
    const base = structuredClone(scenario({ draft: { triggers: [], boosts: [], levels: [] } }, [
      kind({ achievements: [{ key: "done", day: 1 }], attributes: {}, activeDays: 1 }),
    ])) as unknown;
    let place = base as Record<string | number, unknown>;
    for (const key of path.slice(0, -1)) place = place[key] as Record<string | number, unknown>;
    place[path.at(-1) ?? ""] = value;
    return base;
  };
  const cases: readonly (readonly [unknown, string])[] = [
    [null, "scenario must not be null"],
    ["x", "scenario must be an object"],
    [[], "scenario must be an object"],
    [{}, "scenario.days is required"],
    [at(["days"], 0), "scenario.days must be at least 1"],
    [at(["days"], 366), "scenario.days must be at most 365"],
    [at(["days"], 1.5), "scenario.days must be a whole number"],
    [at(["days"], "3"), "scenario.days must be a whole number"],
    [at(["start"], "2026-02-30"), "scenario.start must be a date such as 2026-01-31"],
    [at(["start"], "2026-01-01T00:00:00Z"), "scenario.start must be a date such as 2026-01-31"],
    [at(["seed"], "x"), "scenario.seed must be a whole number"],
    [at(["seed"], 1e300), "scenario.seed must be at most 9007199254740991"],
    [at(["sedd"], 1), "scenario.sedd is not known here"],
    [at(["kinds"], []), "scenario.kinds has less than 1 item"],
    [at(["kinds"], {}), "scenario.kinds must be an array"],
    [at(["kinds", 0], 5), "scenario.kinds[0] must be an object"],
    [at(["kinds", 0, "name"], ""), "scenario.kinds[0].name must not be empty"],
    [at(["kinds", 0, "users"], 0), "scenario.kinds[0].users must be at least 1"],
    [at(["kinds", 0, "tz"], "Mars/Olympus"), "scenario.kinds[0].tz: there is no time zone Mars/Olympus"],
    [at(["kinds", 0, "attributes"], { plan: 1 }), "scenario.kinds[0].attributes.plan must be a string"],
    [at(["kinds", 0, "attributes"], { nope: "1" }), "scenario.kinds[0].attributes.nope: there is no such user attribute"],
    [at(["kinds", 0, "activeDays"], 1.1), "scenario.kinds[0].activeDays must be a share from 0 to 1 or an array of weekdays"],
    [at(["kinds", 0, "activeDays"], [7]), "scenario.kinds[0].activeDays must be a share from 0 to 1 or an array of weekdays"],
    [at(["kinds", 0, "events"], null), "scenario.kinds[0].events must not be null"],
    [at(["kinds", 0, "events", 0, "metric"], "nope"), "scenario.kinds[0].events[0].metric: there is no metric nope"],
    [at(["kinds", 0, "events", 0, "perDay"], [3, 1]), "scenario.kinds[0].events[0].perDay: the least is above the most"],
    [at(["kinds", 0, "events", 0, "perDay"], [1]), "scenario.kinds[0].events[0].perDay must be a number"],
    [at(["kinds", 0, "events", 0, "perDay"], -1), "scenario.kinds[0].events[0].perDay must be a number"],
    [at(["kinds", 0, "events", 0, "value"], "5"), "scenario.kinds[0].events[0].value must be a number"],
    [at(["kinds", 0, "events", 0, "value"], 1e15), "scenario.kinds[0].events[0].value must be at most 999999999999999"],
    [at(["kinds", 0, "events", 0, "attributes"], { nope: "x" }), "scenario.kinds[0].events[0].attributes.nope: there is no such event attribute"],
    [at(["kinds", 0, "achievements", 0, "key"], "nope"), "scenario.kinds[0].achievements[0].key: there is no active achievement nope"],
    [at(["kinds", 0, "achievements", 0, "day"], 4), "scenario.kinds[0].achievements[0].day is after the last day"],
    [at(["draft"], []), "scenario.draft must be an object"],
    [at(["draft", "maxPoints"], 0), "scenario.draft.maxPoints must be at least 1"],
    [at(["draft", "trigger"], []), "scenario.draft.trigger is not known here"],
    [at(["draft", "triggers"], [1]), "scenario.draft.triggers[0] must be an object"],
    [at(["draft", "triggers"], [{ id: "x" }]), "scenario.draft.triggers[0].id must be a UUID"],
    [at(["draft", "triggers"], [{ points: "1" }]), "scenario.draft.triggers[0].points must be a whole number"],
    [at(["draft", "triggers"], [{ userAttributes: [{ attributeId: 1 }] }]), "scenario.draft.triggers[0].userAttributes[0].attributeId must be a UUID"],
    [at(["draft", "boosts"], [{ start: "soon" }]), "scenario.draft.boosts[0].start must be a date"],
    [at(["draft", "levels"], [{ badge: { url: 1 } }]), "scenario.draft.levels[0].badge.url must be a string"],
  ];

  test.each(cases)("%j", async (given, message) => {
    await withWorld(async ({ db }) => {
      await anAchievement(db, { key: "done" });
      const refused = await refusal(db, () => preview(db, "xp", given));
      expect(refused).toEqual(lr("LR060", message));
      // The place itself, below the document's own name.
      const place = /^\S+?(?=:? )/.exec(message)?.[0] ?? "";
      expect(refused.field).toBe(place.replace("scenario.", ""));
    });
  });

  test("what is too large is told beside what makes it so", async () => {
    await withWorld(async ({ db }) => {
      const stream = (perDay: number | number[]) => ({ metric: "words", perDay });
      const cases: readonly (readonly [Scenario, string])[] = [
        [scenario({ days: 365 }, [kind(), kind({ users: 300, activeDays: 0.5 })]), "days"],
        [scenario({ days: 100 }, [kind(), kind({ users: 2000, activeDays: 0.5 })]), "kinds[1].users"],
        [scenario({ days: 101 }, [kind({ events: [stream(1), stream(1000)] })]), "kinds[0].events[1].perDay"],
        [scenario({ days: 200 }, [kind({ users: 100, events: [stream([1, 9])] })]), "days"],
        // Users who all do the same are one: 5,000 of them make nothing larger.
        [scenario({ days: 300 }, [kind({ users: 5000, events: [stream(500)] })]), "kinds[0].events[0].perDay"],
      ];
      for (const [given, field] of cases) expect(await refusal(db, () => preview(db, "xp", given))).toMatchObject({ code: "LR061", field });
    });
  });

  test("the last of each limit is taken, the first beyond it refused", async () => {
    await withWorld(async ({ db }) => {
      const random = (users: number, days: number): Scenario => scenario({ days }, [kind({ users, activeDays: 0.001, events: [] })]);
      await preview(db, "xp", random(1000, 100));
      expect(await refusal(db, () => preview(db, "xp", random(1001, 100)))).toEqual(lr("LR061", "100100 users × days"));
      const busy = (perDay: number): Scenario => scenario({ days: 101 }, [kind({ events: [{ metric: "words", perDay }] })]);
      expect(await refusal(db, () => preview(db, "xp", busy(1000)))).toEqual(lr("LR061", "up to 101000 events"));
      // Users who all do the same are one.
      expect((await preview(db, "xp", scenario({ days: 1 }, [kind({ users: 100_000 })]))).kinds[0]).toMatchObject({ users: 100_000, events: 100_000 });
    });
  });
});
