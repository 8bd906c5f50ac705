import { beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase, withRollback } from "../support/database.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await cloneDatabase();
});

describe("a role's pool", () => {
  test.each(["admin", "service", "user"] as const)("%s starts in its role and returns to it", async (role) => {
    const client = await database.pools[role].connect();
    try {
      await client.query("reset role");
      const found = await client.query("select session_user, current_user");
      expect(found.rows).toEqual([{ session_user: "laurel_server", current_user: `laurel_${role}` }]);
    } finally {
      client.release();
    }
  });

  test("gives up on a statement after its timeout", async () => {
    const found = await database.pools.service.query("show statement_timeout");
    expect(found.rows).toEqual([{ statement_timeout: "25s" }]);
  });
});

describe("the server's login", () => {
  test("can use nothing of Laurel's before it takes a role", async () => {
    const found = await database.pools.server.query(
      "select has_schema_privilege('laurel', 'usage') as may_use, has_schema_privilege('laurel_private', 'usage') as may_see",
    );
    expect(found.rows).toEqual([{ may_use: false, may_see: false }]);
  });
});

describe("numbers from the database", () => {
  test("keep every digit, in arrays too", async () => {
    const found = await withRollback((client) =>
      client.query(
        "select 9007199254740993::int8 as a, 0.1234567890123456789 as b, array[9007199254740993::int8] as c, array[0.1234567890123456789] as d",
      ),
    );
    expect(found.rows).toEqual([
      {
        a: "9007199254740993",
        b: "0.1234567890123456789",
        c: ["9007199254740993"],
        d: ["0.1234567890123456789"],
      },
    ]);
  });
});
