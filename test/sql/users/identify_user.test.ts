import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { as, first, ledger, record, refusal, steps, total } from "../../support/engine.ts";
import { aBoost, aMetric, anAttribute, aSystem, aTrigger, type Database } from "../../support/factories.ts";
import { lr } from "../../support/refusals.ts";

/** Rules U1 to U4, TR6 and Q3: users by laurel.identify_user() and inline with an event. */

interface User {
  id: string;
  name: string | null;
  email: string | null;
  tz: string | null;
  attributes: Record<string, string>;
  [other: string]: unknown;
}

async function identify(db: Database, id: string | null, profile?: unknown): Promise<User> {
  const found =
    profile === undefined
      ? await db.query<{ user: User }>("select laurel.identify_user($1) as user", [id])
      : await db.query<{ user: User }>("select laurel.identify_user($1, $2) as user", [id, JSON.stringify(profile)]);
  return first(found.rows).user;
}

/** The ways a profile can come in. */
const ways: [string, (db: Database, id: string, profile: object) => Promise<unknown>][] = [
  ["identify_user()", identify],
  [
    "an event",
    async (db, id, profile) => {
      const metric = await aMetric(db);
      return record(db, { metric: metric.key, user: id, profile: profile as Record<string, unknown> });
    },
  ],
];

async function stored(db: Database, id: string): Promise<User | undefined> {
  const found = await db.query<User>("select * from laurel.users where id = $1", [id]);
  return found.rows[0];
}

describe("identify_user() (U1, U2, Q3)", () => {
  test("answers with the user, every field there", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const user = await identify(db, "ada", { name: "Ada", email: "a@x.org", tz: "Europe/London", attributes: { plan: "pro" } });
      expect(user).toEqual(
        expect.objectContaining({
          id: "ada",
          name: "Ada",
          email: "a@x.org",
          tz: "Europe/London",
          attributes: { plan: "pro" },
          subscribeToEmails: true,
          control: false,
          created: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
          updated: expect.stringMatching(/Z$/),
        }),
      );
      expect(await identify(db, "bob")).toMatchObject({ id: "bob", name: null, email: null, tz: null, attributes: {} });
    });
  });

  test("IDs of 1 and 255 characters are users, none and 256 are not", async () => {
    await withRollback(async (db) => {
      for (const id of ["x", "é".repeat(255), " ", "a/b?c#d%", "__proto__"]) expect((await identify(db, id)).id).toBe(id);
      for (const id of ["", "é".repeat(256), null]) expect(await refusal(db, () => identify(db, id))).toEqual(lr("LR010"));
    });
  });

  test("IDs are told apart byte by byte", async () => {
    await withRollback(async (db) => {
      for (const id of ["ada", "Ada", "ada ", "a\u0308", "\u00e4"]) await identify(db, id);
      expect((await db.query("select from laurel.users")).rowCount).toBe(5);
    });
  });

  test("update_user() and user_profile() refuse a user that does not exist", async () => {
    await withRollback(async (db) => {
      expect(await refusal(db, () => db.query("select laurel.update_user('ada', '{}')"))).toEqual(lr("LR002", "ada"));
      expect(await refusal(db, () => db.query("select laurel.user_profile('ada')"))).toEqual(lr("LR002", "ada"));
      expect((await db.query("select from laurel.users")).rowCount).toBe(0);
      await identify(db, "ada", { name: "Ada" });
      await db.query(`select laurel.update_user('ada', '{"email": "e"}')`);
      const found = await db.query<{ user: User }>("select laurel.user_profile('ada') as user");
      expect(first(found.rows).user).toMatchObject({ name: "Ada", email: "e" });
    });
  });

  test("a user may identify itself only", async () => {
    await withRollback(async (db) => {
      await db.query("select set_config('laurel.user_id', 'ada', true)");
      await as(db, "laurel_user", () => identify(db, "ada", { name: "Ada" }));
      expect(await refusal(db, () => as(db, "laurel_user", () => identify(db, "bob")))).toEqual(lr("LR041"));
      await db.query("select set_config('laurel.user_id', '', true)");
      expect(await refusal(db, () => as(db, "laurel_user", () => identify(db, "ada")))).toEqual(lr("LR041"));
    });
  });
});

describe.each(ways)("a profile by %s", (_, give) => {
  test("is an upsert: what is given changes, what is absent stays (U2)", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      await give(db, "ada", { name: "Ada", tz: "Asia/Tokyo", attributes: { plan: "pro" } });
      await give(db, "ada", { email: "a@x.org" });
      await give(db, "ada", {});
      expect(await stored(db, "ada")).toMatchObject({
        name: "Ada",
        email: "a@x.org",
        tz: "Asia/Tokyo",
        attributes: { plan: "pro" },
      });
    });
  });

  test("merges attributes, null removes one (U4)", async () => {
    await withRollback(async (db) => {
      for (const key of ["plan", "land", "size"]) await anAttribute(db, { key });
      await give(db, "ada", { attributes: { plan: "pro", land: "at" } });
      await give(db, "ada", { attributes: { plan: "free", size: "", land: null } });
      expect((await stored(db, "ada"))?.attributes).toEqual({ plan: "free", size: "" });
    });
  });

  test("with undeclared attribute keys is refused whole, null values too, naming them all (U4)", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      await anAttribute(db, { key: "kind", type: "event" });
      const refused = await refusal(db, () =>
        give(db, "ada", { name: "Ada", attributes: { plan: "pro", kind: "x", aa: null } }),
      );
      expect(refused).toEqual(lr("LR012", "Invalid attribute keys: aa, kind."));
      expect(await stored(db, "ada")).toBeUndefined();
    });
  });

  test.each([{ plan: 1 }, { plan: true }, { plan: ["a"] }, { plan: {} }, [], "plan", 5])(
    "with attributes %j is refused (U4)",
    async (attributes) => {
      await withRollback(async (db) => {
        await anAttribute(db, { key: "plan" });
        expect(await refusal(db, () => give(db, "ada", { attributes }))).toEqual(lr("LR013"));
        expect(await stored(db, "ada")).toBeUndefined();
      });
    },
  );

  test.each(["UTC", "Europe/London", "Pacific/Kiritimati", "America/Argentina/Buenos_Aires", "Etc/GMT+12"])(
    "takes the time zone %s (U3)",
    async (tz) => {
      await withRollback(async (db) => {
        await give(db, "ada", { tz });
        expect((await stored(db, "ada"))?.tz).toBe(tz);
      });
    },
  );

  test.each(["", "Mars/Olympus", "europe/london", "Europe/London ", "+02:00", "CEST", "UTC+2", "<+05>-05", "localtime/x", "../etc/passwd"])(
    "refuses the time zone %j (U3)",
    async (tz) => {
      await withRollback(async (db) => {
        expect(await refusal(db, () => give(db, "ada", { tz }))).toEqual(lr("LR016"));
        expect(await stored(db, "ada")).toBeUndefined();
      });
    },
  );

  test.each([[[]], ["text"], [5], [{ name: 5 }], [{ tz: 5 }], [{ email: {} }], [{ subscribeToEmails: "yes" }]])(
    "%j is refused in words",
    async (profile) => {
      await withRollback(async (db) => {
        expect(await refusal(db, () => give(db, "ada", profile as object))).toEqual(lr("LR017"));
        expect(await stored(db, "ada")).toBeUndefined();
      });
    },
  );

  test("brings user_creation points once, by its own attributes and time zone (TR6, B2)", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const system = await aSystem(db);
      await aTrigger(db, { system, type: "user_creation", points: 10, user_attributes: { plan: "pro" } });
      await aTrigger(db, { system, type: "user_creation", points: 3 });
      await aTrigger(db, { system, type: "user_creation", points: 500, status: "inactive" });
      await aBoost(db, { system, multiplier: 2, user_attributes: { plan: "pro" } });
      await give(db, "ada", { attributes: { plan: "pro" } });
      await give(db, "ada", { attributes: { plan: "pro" } });
      await give(db, "bob", {});
      await give(db, "bob", { attributes: { plan: "pro" } });
      expect(await steps(db, "ada", system)).toEqual(["0 +20 20", "20 +6 26"]);
      expect(await steps(db, "bob", system)).toEqual(["0 +3 3"]);
    });
  });
});

describe("identification", () => {
  test("is dated now when alone", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      await aTrigger(db, { system, type: "user_creation", points: 10 });
      await identify(db, "ada");
      const found = await db.query(
        `select cause, event_id, occurred_at between now() and clock_timestamp() as now, total_after from laurel.points_awards`,
      );
      expect(found.rows).toEqual([{ cause: "user_creation", event_id: null, now: true, total_after: "10" }]);
    });
  });

  test("a deduction for new users that blocks refuses the user (TR6, TR8)", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db, { key: "coins" });
      await aTrigger(db, { system, type: "user_creation", points: -1, block_if_out_of_points: true });
      expect(await refusal(db, () => identify(db, "ada"))).toEqual(lr("LR030", "coins"));
      expect(await stored(db, "ada")).toBeUndefined();
    });
  });

  test("a replayed event changes nothing of the profile, however it is given (E4)", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const metric = await aMetric(db);
      const event = { metric: metric.key, user: "ada", key: "k" };
      await record(db, { ...event, profile: { name: "Ada", attributes: { plan: "pro" } } });
      const before = await stored(db, "ada");
      const replayed = await record(db, { ...event, profile: { name: "Eve", tz: "Asia/Tokyo", attributes: { plan: null } } });
      expect(replayed.idempotentReplayed).toBe(true);
      expect(await stored(db, "ada")).toEqual(before);
    });
  });

  test("a change of time zone leaves earlier awards as they are (U3)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1 });
      await aBoost(db, { system, multiplier: 2, starts_on: "2024-06-10", ends_on: "2024-06-10" });
      await identify(db, "ada", { tz: "Pacific/Kiritimati" });
      await record(db, { metric: metric.key, user: "ada", at: "2024-06-09T12:00:00Z" });
      const before = await ledger(db, "ada");
      await identify(db, "ada", { tz: "Pacific/Pago_Pago" });
      expect(await ledger(db, "ada")).toEqual(before);
      await record(db, { metric: metric.key, user: "ada", at: "2024-06-09T12:00:00Z" });
      expect(await steps(db, "ada", system)).toEqual(["0 +2 2", "2 +1 3"]);
      expect(await total(db, "ada", system)).toBe("3");
    });
  });
});
