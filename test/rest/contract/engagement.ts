import { expect, test } from "@jest/globals";
import { type Contract, nobody } from "../../support/contract.ts";
import { idsOf } from "../../support/rest.ts";

/** The answers about what keeps users coming: achievements, leaderboards and streaks. */
export function engagementAnswers({ call }: Contract): void {
  test("of achievements, and of those who complete them", async () => {
    const [tier = ""] = idsOf(await call("admin", "post", "/attributes", 201, { body: [{ name: "Rankling", key: "rankling", type: "user" }] }));
    const [format = ""] = idsOf(await call("admin", "post", "/attributes", 201, { body: [{ name: "Format", key: "format", type: "event" }] }));
    const [metricId = ""] = idsOf(await call("admin", "post", "/metrics", 201, { body: [{ name: "Chapters", key: "chapters" }] }));
    const filter = [{ attributeId: tier, attributeValue: "gold" }];
    const created = await call("admin", "post", "/achievements", 201, {
      body: [
        { name: "Five", trigger: "metric", metricId, metricValue: 5, status: "active", badge: { url: "https://example.com/5.png" } },
        { name: "Filtered", trigger: "metric", metricId, metricValue: 2.5, eventAttributes: [{ attributeId: format, attributeValue: "print" }], userAttributes: filter },
        { name: "Called", trigger: "api", key: "called", status: "active", description: "By a call" },
        { name: "Locked", trigger: "api", key: "locked", status: "locked" },
        { name: "Week", trigger: "streak", streakLength: 7 },
        { name: "Year", trigger: "anniversary", anniversaryYears: 1, status: "active" },
        { name: "No key", trigger: "api" },
        { name: "No metric", trigger: "metric", metricValue: 3 },
        { name: "Too low", trigger: "metric", metricId, metricValue: 0 },
        { name: "Unknown prerequisite", trigger: "achievement", achievementIds: [nobody] },
        { name: "No prerequisite", trigger: "achievement" },
        { name: "No such trigger", trigger: "magic" },
      ],
    });
    const [five = "", filtered = "", called = "", , week = ""] = idsOf(created);
    expect((created.body as { issues: { index: number; message: string }[] }).issues.map(({ index, message }) => `${index} ${message}`)).toEqual([
      "6 An achievement that calls complete has a key.",
      "7 A metric achievement, and no other, has a metric and a metric value.",
      "8 The metric value is at least 1, with at most 15 digits before the point.",
      `9 No achievement has the ID ${nobody}.`,
      "10 An achievement of achievements, and no other, has prerequisites, at most 100.",
      "11 trigger must be metric or streak or api or achievement or anniversary.",
    ]);
    const [both = ""] = idsOf(await call("admin", "post", "/achievements", 201, {
      body: [{ name: "Both", trigger: "achievement", achievementIds: [five, called], status: "active" }],
    }));
    await call("admin", "post", "/achievements", 200, { body: [{ name: "No" }] });
    await call("admin", "post", "/achievements", 422, { body: {} });
    const [systemId = ""] = idsOf(await call("admin", "post", "/points", 201, { body: [{ name: "Stars", key: "stars" }] }));
    await call("admin", "post", "/points/{systemId}/triggers", 201, {
      params: { systemId },
      body: [five, called, both].map((achievementId) => ({ type: "achievement", points: 10, achievementId, status: "active" })),
    });
    expect((await call("application", "post", "/achievements/{key}/complete", 201, {
      params: { key: "called" }, body: { user: { id: "reader", email: "r@example.com", attributes: { rankling: "gold" } } },
    })).body).toMatchObject({ achievement: { key: "called" }, points: { stars: { added: 10 } } });
    await call("application", "post", "/achievements/{key}/complete", 201, { params: { key: "called" }, body: { user: { id: "reader" } } });
    await call("application", "post", "/achievements/{key}/complete", 404, { params: { key: "locked" }, body: { user: { id: "reader" } } });
    await call("application", "post", "/achievements/{key}/complete", 404, { params: { key: "nonsuch" }, body: { user: { id: "reader" } } });
    await call("application", "post", "/achievements/{key}/complete", 422, { params: { key: "called" }, body: {} });
    expect((await call("application", "post", "/metrics/{key}/event", 201, {
      params: { key: "chapters" }, body: { user: { id: "reader" }, value: 6, attributes: { format: "print" } },
    })).body).toMatchObject({ achievements: [{ id: five }, { id: both }], points: { stars: { added: 20, total: 30 } } });
    await call("application", "get", "/achievements", 200);
    await call("application", "get", "/achievements", 200, { query: "?userAttributes=rankling:gold" });
    await call("application", "get", "/achievements", 422, { query: "?userAttributes=rankling" });
    await call("application", "get", "/users/{id}/achievements", 200, { params: { id: "reader" } });
    await call("application", "get", "/users/{id}/achievements", 200, { params: { id: "reader" }, query: "?includeIncomplete=true" });
    await call("application", "get", "/users/{id}/achievements", 404, { params: { id: "nobody" } });
    await call("application", "get", "/users/{id}/metrics", 200, { params: { id: "reader" } });
    await call("admin", "get", "/achievements", 200, { query: "?limit=3&skip=1" });
    await call("admin", "get", "/achievements/{id}", 200, { params: { id: filtered } });
    await call("admin", "get", "/achievements/{id}", 404, { params: { id: nobody } });
    const updated = await call("admin", "patch", "/achievements", 200, {
      body: [
        { id: five, name: "High five", badge: null, description: "Well done" },
        { id: filtered, userAttributes: null, eventAttributes: null, status: "active" },
        { id: week, trigger: "anniversary", anniversaryYears: 2 },
        { id: five, trigger: "achievement", achievementIds: [both] },
        { id: nobody, name: "x" },
      ],
    });
    expect((updated.body as { issues: { message: string }[] }).issues.map(({ message }) => message)).toEqual([
      "An achievement cannot need itself, directly or through others.", `No achievement has the ID ${nobody}.`,
    ]);
    const deleted = await call("admin", "delete", "/achievements", 200, { query: `?ids=${filtered},${called},${nobody}` });
    expect((deleted.body as { issues: { message: string }[] }).issues).toHaveLength(2);
    await call("admin", "get", "/achievements/{id}", 404, { params: { id: filtered } });
  });

  test("of leaderboards, and of who stands where", async () => {
    const [city = "", league = ""] = idsOf(await call("admin", "post", "/attributes", 201, {
      body: [{ name: "City", key: "city", type: "user" }, { name: "League", key: "league", type: "user" }],
    }));
    const [metricId = ""] = idsOf(await call("admin", "post", "/metrics", 201, { body: [{ name: "Miles", key: "miles" }] }));
    const [pointsSystemId = ""] = idsOf(await call("admin", "post", "/points", 201, {
      body: [{ name: "Medals", key: "medals", triggers: [{ type: "metric", points: 10, status: "active", metricId, metricThreshold: 1 }] }],
    }));
    const day = (ahead: number): string => new Date(Date.now() + ahead * 86_400_000).toISOString().slice(0, 10);
    const metric = { name: "M", rankBy: "metric", metricId };
    const created = await call("admin", "post", "/leaderboards", 201, {
      body: [
        { name: "Ever", key: "ever", rankBy: "metric", metricId, status: "active", description: "All time", maxParticipants: 2, start: day(-10) },
        { name: "Weekly", key: "weekly", rankBy: "points", pointsSystemId, status: "active", start: day(-10), runUnit: "day", runInterval: 7, startTime: "00:00", endTime: "23:59:59" },
        { name: "Cities", key: "cities", rankBy: "metric", metricId, status: "active", breakdownAttributes: [city, league], start: day(0), end: day(30) },
        { name: "Later", key: "later", rankBy: "streak", status: "scheduled", start: day(5) },
        { name: "Over", key: "over", rankBy: "metric", metricId, status: "finished", start: day(-20), end: day(-10) },
        { name: "Draft", key: "draft", rankBy: "streak" },
        { name: "One city", key: "one-city", rankBy: "metric", metricId, status: "active", breakdownAttributes: [city] },
        { ...metric, key: "ever" },
        { ...metric, key: "m1", maxParticipants: 1001 },
        { ...metric, key: "m2", maxParticipants: 0 },
        { ...metric, key: "m3", start: "2026-02-01", end: "2026-01-31" },
        { ...metric, key: "m4", metricId: nobody },
        { ...metric, key: "m5", metricId: null },
        { name: "M", key: "m6", rankBy: "points" },
        { name: "M", key: "m7", rankBy: "points", pointsSystemId: nobody },
        { ...metric, key: "m8", runUnit: "month" },
        { name: "M", key: "m9", rankBy: "streak", runUnit: "day", runInterval: 1 },
        { ...metric, key: "m10", breakdownAttributes: [nobody] },
        { ...metric, key: "m11", breakdownAttributes: [city, city] },
        { ...metric, key: "m12", startTime: "25:00" },
        { ...metric, key: "m13", startTime: "09:00", endTime: "09:00" },
        { ...metric, key: "m14", status: "scheduled" },
        { ...metric, key: "m15", status: "active", start: day(5) },
        { ...metric, key: "m16", status: "finished" },
        { ...metric, key: "not a key" },
        { ...metric, key: "m17", rankBy: "magic" },
      ],
    });
    const [ever = "", weekly = "", cities = "", later = "", , draft = ""] = idsOf(created);
    expect((created.body as { issues: { index: number; message: string }[] }).issues.map(({ index, message }) => `${index} ${message}`)).toEqual([
      "7 Another leaderboard already has this key.",
      "8 A leaderboard has 1 to 1,000 participants.",
      "9 A leaderboard has 1 to 1,000 participants.",
      "10 A leaderboard cannot end before it starts.",
      "11 The metric does not exist.",
      "12 A leaderboard that ranks by metric, and no other, names a metric.",
      "13 A leaderboard that ranks by points, and no other, names a points system.",
      "14 The points system does not exist.",
      "15 A repeating leaderboard has a run unit and a run interval of 1 to 10,000, another neither.",
      "16 A streak leaderboard neither repeats nor has a daily time window.",
      `17 No user attribute has the ID ${nobody}.`,
      "18 A breakdown attribute is named twice.",
      expect.stringMatching(/^19 startTime /),
      "20 The start time and the end time differ.",
      "21 Only a leaderboard whose start date lies in the future can be scheduled.",
      "22 A leaderboard whose start date lies in the future can be scheduled, not active.",
      "23 Only a leaderboard whose end date has passed can be created as finished.",
      "24 A key has 1 to 255 letters, digits, hyphens and underscores.",
      "25 rankBy must be metric or streak or points.",
    ]);
    await call("admin", "post", "/leaderboards", 200, { body: [{ name: "No" }] });
    await call("admin", "post", "/leaderboards", 422, { body: {} });

    const send = (user: string, value: number, attributes = {}) => call("application", "post", "/metrics/{key}/event", 201, {
      params: { key: "miles" }, body: { user: { id: user, name: user.toUpperCase(), attributes }, value },
    });
    await send("lea", 5, { city: "Rome", league: "a" });
    await send("leo", 7, { city: "Rome", league: "a" });
    const third = await send("lou", 6.5, { city: "Oslo", league: "a" });
    expect((third.body as { leaderboards: unknown }).leaderboards).toMatchObject({
      ever: { rank: 2, previousRank: null, threshold: 6, start: day(-10), end: null },
      weekly: { rank: 2, previousRank: null, threshold: 0, start: day(-3), end: day(3) },
      cities: { rank: 1, breakdownAttributeValues: [{ key: "city", value: "Oslo" }, { key: "league", value: "a" }] },
      "one-city": { rank: 1, breakdownAttribute: "city", breakdownAttributeValue: "Oslo" },
    });
    const passed = await send("lea", 2, {});
    expect((passed.body as { leaderboards: unknown }).leaderboards).toMatchObject({
      ever: { rank: 2, previousRank: null }, weekly: { rank: 2, previousRank: 3 }, cities: { rank: 2, previousRank: 2 },
    });
    const all = await call("application", "get", "/leaderboards", 200);
    expect((all.body as { key: string; status: string }[]).map(({ key, status }) => `${key} ${status}`)).toEqual(
      ["ever active", "weekly active", "cities active", "later scheduled", "one-city active"]);
    expect((await call("application", "get", "/leaderboards", 200, { query: "?includeFinished=true" })).body).toHaveLength(6);
    await call("application", "get", "/leaderboards", 422, { query: "?includeFinished=perhaps" });
    const rankings = async (key: string, query = ""): Promise<string[]> =>
      ((await call("application", "get", "/leaderboards/{key}", 200, { params: { key }, query })).body as {
        rankings: { userId: string; rank: number; value: number }[];
      }).rankings.map(({ userId, rank, value }) => `${rank} ${userId} ${value}`);
    expect(await rankings("ever")).toEqual(["1 leo 7", "2 lea 7"]);
    expect(await rankings("weekly", "?limit=2&offset=1")).toEqual(["2 lea 70", "3 lou 60"]);
    expect(await rankings("weekly", "?userId=lea")).toEqual(["2 lea 70", "3 lou 60"]);
    expect(await rankings("weekly", "?userId=nobody")).toEqual([]);
    expect(await rankings("weekly", `?run=${day(-4)}`)).toEqual([]);
    expect(await rankings("ever", "?limit=0")).toEqual([]);
    expect(await rankings("cities", "?userAttributes=city:Rome,league:a")).toEqual(["1 leo 7", "2 lea 7"]);
    expect(await rankings("cities", "?userAttributes=league:a")).toEqual(["1 leo 7", "2 lea 7", "3 lou 6"]);
    expect(await rankings("later")).toEqual([]);
    await call("application", "get", "/leaderboards/{key}", 200, { params: { key: "over" } });
    for (const [key, query] of [
      ["ever", "?limit=3"], ["ever", "?limit=-1"], ["ever", "?offset=-1"], ["ever", "?run=soon"], ["ever", "?userAttributes=city:Rome"],
      ["cities", ""], ["cities", "?userAttributes=plan:pro"], ["cities", "?userAttributes=city"],
    ] as const) await call("application", "get", "/leaderboards/{key}", 422, { params: { key }, query });
    for (const [key, query] of [["nonsuch", ""], ["draft", ""], ["ever", `?run=${day(-11)}`], ["weekly", `?run=${day(9)}`], ["over", `?run=${day(-9)}`]] as const) {
      await call("application", "get", "/leaderboards/{key}", 404, { params: { key }, query });
    }
    const mine = await call("application", "get", "/users/{id}/leaderboards/{key}", 200, { params: { id: "lea", key: "ever" } });
    expect(mine.body).toMatchObject({ rank: 2, value: 7, history: [{ date: day(0), previousRank: null, rank: 2, previousValue: null, value: 7 }] });
    expect((await call("application", "get", "/users/{id}/leaderboards/{key}", 200, { params: { id: "lou", key: "ever" }, query: "?numEvents=1" })).body)
      .toMatchObject({ rank: null, value: null });
    await call("application", "get", "/users/{id}/leaderboards/{key}", 200, { params: { id: "lea", key: "weekly" }, query: `?run=${day(-9)}` });
    await call("application", "get", "/users/{id}/leaderboards/{key}", 422, { params: { id: "lea", key: "ever" }, query: "?numEvents=101" });
    await call("application", "get", "/users/{id}/leaderboards/{key}", 404, { params: { id: "nobody", key: "ever" } });

    const review = await call("application", "get", "/users/{id}/wrapped", 200, { params: { id: "lea" } });
    expect(review.body).toMatchObject({ user: { id: "lea" }, activity: { entireYear: { leaderboards: { ever: { key: "ever", rank: 2, value: 7 } } } } });
    await call("application", "get", "/users/{id}/wrapped", 200, { params: { id: "lea" }, query: "?year=1" });
    for (const year of ["0", "-1", "2.5", "soon", "9999", "99999999999"]) {
      await call("application", "get", "/users/{id}/wrapped", 422, { params: { id: "lea" }, query: `?year=${year}` });
    }
    await call("application", "get", "/users/{id}/wrapped", 404, { params: { id: "nobody" } });
    await call("application", "get", "/users/{id}/leaderboards/{key}", 404, { params: { id: "lea", key: "nonsuch" } });

    await call("admin", "get", "/leaderboards", 200, { query: "?limit=3&skip=1" });
    await call("admin", "get", "/leaderboards/{id}", 200, { params: { id: cities } });
    await call("admin", "get", "/leaderboards/{id}", 404, { params: { id: nobody } });
    const updated = await call("admin", "patch", "/leaderboards", 200, {
      body: [
        { id: ever, name: "For ever", description: null, maxParticipants: null },
        { id: ever, key: "other" },
        { id: ever, end: day(0) },
        { id: cities, end: day(40) },
        { id: weekly, status: "finished" },
        { id: weekly, status: "active" },
        { id: later, start: day(6) },
        { id: later, status: "scheduled", name: "Much later" },
        { id: later, status: "inactive" },
        { id: draft, rankBy: "points", pointsSystemId, runUnit: "month", runInterval: 1, startTime: "09:00", endTime: "17:00", breakdownAttributes: [city], status: "active" },
        { id: nobody, name: "x" },
      ],
    });
    expect((updated.body as { issues: { index: number; message: string }[] }).issues.map(({ index, message }) => `${index} ${message}`)).toEqual([
      "1 What a leaderboard ranks by, its key, start, time window, breakdown and runs can only be changed while it is inactive.",
      "2 While a leaderboard is active its end date can only be changed from and to days that are two days ahead.",
      "5 A finished leaderboard can only be made inactive first.",
      "6 What a leaderboard ranks by, its key, start, time window, breakdown and runs can only be changed while it is inactive.",
      `10 No leaderboard has the ID ${nobody}.`,
    ]);
    expect((updated.body as { updated: { status: string }[] }).updated.map(({ status }) => status)).toEqual(
      ["active", "active", "finished", "scheduled", "inactive", "active"]);
    const deleted = await call("admin", "delete", "/leaderboards", 200, { query: `?ids=${later},${nobody}` });
    expect((deleted.body as { issues: unknown[] }).issues).toHaveLength(1);
    await call("admin", "get", "/leaderboards/{id}", 404, { params: { id: later } });
  });

  test("of streaks", async () => {
    for (const key of ["laps", "dips"]) await call("admin", "post", "/metrics", 201, { body: [{ name: key, key }] });
    await call("admin", "get", "/streaks/settings", 200);
    const settings = {
      frequency: "daily", evaluationMode: "OR", customizationEnabled: true, daysOff: [6, 0],
      metrics: [{ key: "laps", threshold: 2 }, { key: "dips", threshold: 1 }],
      freezes: { startCount: 1, maxCount: 2, autoEarnInterval: 7, autoEarnAmount: 1 },
    };
    expect((await call("admin", "patch", "/streaks/settings", 200, { body: settings })).body).toEqual({ ...settings, daysOff: [0, 6], updated: expect.any(String) });
    for (const body of [
      { frequency: "hourly" }, { daysOff: [7] }, { daysOff: [1, 1] }, { daysOff: [0, 1, 2, 3, 4, 5, 6] }, { metrics: [] },
      { metrics: [{ key: "none", threshold: 1 }] }, { metrics: [{ key: "laps", threshold: 0 }] }, { metrics: [{ key: "laps", threshold: 1.5 }] },
      { metrics: [{ key: "laps", threshold: 1 }, { key: "laps", threshold: 2 }] }, { freezes: { startCount: 3, maxCount: 2 } },
      { freezes: { startCount: 0, maxCount: 2, autoEarnInterval: 7 } }, { freezes: { startCount: 0, maxCount: 101 } }, { frequency: "weekly", daysOff: [1] },
      { evaluationMode: "XOR" }, { customizationEnabled: "yes" }, [],
    ]) await call("admin", "patch", "/streaks/settings", 422, { body });
    const params = { id: "runner" };
    await call("application", "get", "/users/{id}/streak", 404, { params });
    const event = { user: { id: "runner", name: "Ronny" }, value: 1 };
    const unsatisfied = await call("application", "post", "/metrics/{key}/event", 201, { params: { key: "laps" }, body: event });
    expect(unsatisfied.body).toMatchObject({ currentStreak: { length: 0, started: null, extended: false, freezes: 1, maxFreezes: 2 } });
    const satisfied = await call("application", "post", "/metrics/{key}/event", 201, { params: { key: "laps" }, body: event, idempotencyKey: "again" });
    expect(satisfied.body).toMatchObject({ currentStreak: { length: 1, frequency: "daily", extended: true, freezeAutoEarnInterval: 7, freezeAutoEarnAmount: 1 } });
    const replayed = await call("application", "post", "/metrics/{key}/event", 202, { params: { key: "laps" }, body: event, idempotencyKey: "again" });
    expect(replayed.body).toMatchObject({ currentStreak: { length: 1, extended: false } });

    const given = await call("admin", "post", "/streaks/freezes", 201, { body: { freezes: [{ userId: "runner" }, { userId: "runner" }, { userId: "stranger" }, {}] } });
    expect(given.body).toEqual({
      issues: [
        { index: 1, userId: "runner", severity: "warning", message: "The user holds 2 of at most 2 freezes already." },
        { index: 2, userId: "stranger", severity: "error", message: "No user has the ID stranger." },
        { index: 3, field: "userId", severity: "error", message: "userId is required." },
      ].map((issue) => ({ ...issue, level: issue.severity, reason: issue.message })),
    });
    await call("admin", "post", "/streaks/freezes", 200, { body: { freezes: [{ userId: "runner" }] } });
    for (const body of [{}, [], { freezes: [] }, { freezes: {} }, { freezes: Array.from({ length: 101 }, () => ({ userId: "runner" })) }]) {
      await call("admin", "post", "/streaks/freezes", 422, { body });
    }

    const day = (ahead: number): string => new Date(Date.now() + ahead * 86_400_000).toISOString().slice(0, 10);
    const paused = await call("admin", "post", "/streaks/pauses", 201, {
      body: {
        pauses: [
          { userId: "runner", start: day(0), end: day(2) }, { userId: "runner", start: day(2), end: day(4) }, { userId: "runner", start: day(-1), end: day(4) },
          { userId: "runner", start: day(9), end: day(8) }, { userId: "stranger", start: day(0), end: day(2) }, { userId: "runner", start: "soon", end: day(2) },
          { userId: "runner", start: day(3), end: day(3) },
        ],
      },
    });
    expect(paused.body).toMatchObject({
      created: [{ userId: "runner", start: day(0), end: day(2), status: "active" }, { start: day(3) }],
      issues: [{ index: 1, userId: "runner", severity: "error", message: "The pause overlaps another one of the user." }, { index: 2 }, { index: 3 }, { index: 4 }, { index: 5, userId: "runner" }],
    });
    await call("admin", "post", "/streaks/pauses", 200, { body: { pauses: [{ userId: "stranger", start: day(0), end: day(2) }] } });
    await call("admin", "post", "/streaks/pauses", 422, { body: { pauses: "all" } });
    const [, second = ""] = idsOf(paused);
    const dropped = await call("admin", "delete", "/streaks/pauses", 200, { query: `?ids=${second},nonsense,${nobody}` });
    expect(dropped.body).toMatchObject({ deleted: [{ id: second }], issues: [{ id: "nonsense" }, { id: nobody }] });
    await call("admin", "delete", "/streaks/pauses", 422);

    const streak = await call("application", "get", "/users/{id}/streak", 200, { params, query: "?historyPeriods=3" });
    expect(streak.body).toMatchObject({ length: 1, freezes: 2, rank: expect.any(Number), pauses: [{ start: day(0), end: day(2) }] });
    expect((streak.body as { streakHistory: object[] }).streakHistory).toHaveLength(3);
    for (const query of ["?historyPeriods=-1", "?historyPeriods=many", "?historyPeriods=367"]) {
      await call("application", "get", "/users/{id}/streak", 422, { params, query });
    }
    const list = await call("application", "get", "/streaks", 200, { query: "?userIds=stranger,runner" });
    expect(list.body).toMatchObject([{ userId: "runner", streakLength: 1 }, { userId: "stranger", streakLength: 0, extended: null }]);
    await call("application", "get", "/streaks", 422);
    await call("application", "get", "/streaks", 422, { query: `?userIds=${Array.from({ length: 101 }, (_all, n) => `u${n}`).join(",")}` });
    const rankings = await call("application", "get", "/streaks/rankings", 200, { query: "?limit=1" });
    expect(rankings.body).toHaveLength(1);
    const longest = await call("application", "get", "/streaks/rankings", 200, { query: "?type=longest&limit=100" });
    expect(longest.body).toContainEqual({ userId: "runner", name: "Ronny", streakLength: 1 });
    await call("application", "get", "/streaks/rankings", 422, { query: "?type=shortest" });

    const reset = await call("admin", "post", "/streaks/reset", 200, { body: { users: [{ id: "runner" }, { id: "runner" }, { id: "stranger" }] } });
    expect(reset.body).toMatchObject({ resetUsers: ["runner"], issues: [{ userId: "runner", severity: "warning" }, { userId: "stranger", severity: "error" }] });
    const after = await call("application", "get", "/users/{id}/streak", 200, { params });
    expect(after.body).toMatchObject({ length: 0, started: null, extended: null, rank: null });
    expect((after.body as { streakHistory: object[] }).streakHistory.at(-1)).toMatchObject({ length: 0, resetAt: expect.any(String) });
    await call("admin", "post", "/streaks/reset", 422, { body: { users: [] } });
    const restored = await call("admin", "post", "/streaks/restore", 201, { body: { users: [{ id: "runner" }, { id: "runner" }, { id: "stranger" }] } });
    expect(restored.body).toMatchObject({ restoredUsers: ["runner"], issues: [{ userId: "runner", severity: "warning" }, { userId: "stranger", severity: "error" }] });
    await call("admin", "post", "/streaks/restore", 200, { body: { users: [{ id: "stranger" }] } });
    await call("admin", "post", "/streaks/restore", 422, { body: {} });
    expect((await call("application", "get", "/users/{id}/streak", 200, { params })).body).toMatchObject({ length: 1 });

    await call("application", "patch", "/users/{id}/preferences", 200, { params, body: { streak: { evaluationMode: "AND", daysOff: [1] } } });
    await call("application", "patch", "/users/{id}/preferences", 200, { params, body: { streak: { enabled: false } } });
    expect((await call("application", "get", "/users/{id}/streak", 200, { params })).body).toMatchObject({ length: 0 });
    await call("admin", "patch", "/streaks/settings", 200, { body: { freezes: null, customizationEnabled: false, frequency: "weekly" } });
    expect((await call("admin", "get", "/streaks/settings", 200)).body).toMatchObject({ frequency: "weekly", daysOff: [], freezes: null });
  });
}
