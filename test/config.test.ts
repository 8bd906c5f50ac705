import { describe, expect, test } from "@jest/globals";
import { ConfigError, readConfig } from "../src/config.ts";

describe("configuration", () => {
  test("with nothing set is a loopback server on port 4000 with an embedded database", () => {
    expect(readConfig({})).toMatchObject({
      host: "127.0.0.1",
      port: 4000,
      database: { kind: "embedded", dataDirectory: undefined, tcpPort: undefined },
    });
  });

  test("takes an empty variable for an absent one", () => {
    expect(readConfig({ PORT: "", DATABASE_URL: "" })).toEqual(readConfig({}));
  });

  test("takes the owner's password from the URL, or else from PGPASSWORD", () => {
    const url = "postgres://me:p%40ss@db/laurel";
    expect(readConfig({ DATABASE_URL: url, PGPASSWORD: "other" }).database).toMatchObject({ password: "p@ss" });
    expect(readConfig({ DATABASE_URL: "postgres://me@db/laurel", PGPASSWORD: "other" }).database).toMatchObject({
      password: "other",
    });
  });

  test.each(["postgresql://me@%2Frun%2Fpostgresql/laurel", "postgres://me@/laurel?host=/run/postgresql"])(
    "accepts a socket: %s",
    (url) => {
      expect(readConfig({ DATABASE_URL: url }).database).toMatchObject({ url });
    },
  );

  test.each([
    ["PORT", "65535"],
    ["PORT", "0"],
    ["LAUREL_POOL_SIZE", "1000"],
    ["LAUREL_ADMIN_KEY", `admin.${"x".repeat(32)}`],
  ])("accepts %s=%s", (name, value) => {
    expect(() => readConfig({ [name]: value })).not.toThrow();
  });

  test.each([
    ["PORT", "65536"],
    ["PORT", "abc"],
    ["PORT", "4e3"],
    ["LAUREL_POOL_SIZE", "0"],
    ["LAUREL_POOL_SIZE", "1001"],
    ["LAUREL_LOG_LEVEL", "loud"],
    ["LAUREL_ADMIN_KEY", `admin.${"x".repeat(31)}`],
    ["LAUREL_ADMIN_KEY", "x".repeat(64)],
    ["DATABASE_URL", "mysql://me@db/laurel"],
    ["DATABASE_URL", "postgres://me@db"],
    ["DATABASE_URL", "laurel"],
  ])("refuses %s=%s in one line that names it", (name, value) => {
    const read = (): unknown => readConfig({ [name]: value });
    expect(read).toThrow(ConfigError);
    expect(read).toThrow(new RegExp(`^${name}: [^\\n]+$`));
  });
});
