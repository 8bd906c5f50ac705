import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { idsOf, type RestApi, sentencesOf, startRestApi } from "../support/rest.ts";

let rest: RestApi;
let server: Server;
let port: number;
let systemId: string;
let metricId: string;

beforeAll(async () => {
  rest = await startRestApi();
  await rest.as().post("/admin/v1/attributes", [
    { name: "Plan", key: "plan", type: "user" },
    { name: "Device", key: "device", type: "event" },
  ]);
  [metricId = ""] = idsOf(await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }]));
  [systemId = ""] = idsOf(await rest.as().post("/admin/v1/points", [{ name: "XP", key: "xp", maxPoints: 100 }]));
  await rest.as().post("/v1/users", { id: "known" }).expect(201);
  server = createServer(rest.app);
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  ({ port } = server.address() as AddressInfo);
});

afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** How many rows each table of what callers write holds, and when users were last changed. */
async function storedState(): Promise<unknown> {
  const found = await rest.database.pools.owner.query(`
    select (select count(*) from laurel.users) as users, (select max(updated_at) from laurel.users) as changed,
      (select count(*) from laurel.metric_events) as events, (select count(*) from laurel.user_metrics) as totals,
      (select count(*) from laurel.points_awards) as awards, (select count(*) from laurel.attributes) as attributes,
      (select count(*) from laurel.metrics) as metrics, (select count(*) from laurel.points_systems) as systems,
      (select count(*) from laurel.points_triggers) as triggers, (select count(*) from laurel.points_boosts) as boosts,
      (select count(*) from laurel.points_levels) as levels, (select count(*) from laurel_private.queued_events) as queued,
      (select count(*) from laurel_private.api_keys where revoked_at is null) as keys, (select count(*) from laurel.tenants) as tenants,
      (select jsonb_agg(s) from laurel_private.settings s) as settings, (select count(*) from laurel.audit_entries) as audited, (select string_agg(preferences::text, '') from laurel.users) as preferences`);
  return found.rows[0];
}

/** Words of PostgreSQL's, of its drivers or of stacks, which no caller may read. */
const internals =
  /select |insert |relation|column |constraint|violates|syntax|invalid input|pg_|plpgsql|laurel_private|undefined|\[object|node_modules|\.ts\b|at \w+ \(|SQLSTATE/i;

interface Raw {
  readonly status: number;
  readonly body: string;
}

/** Sends bytes as they are: what clients' own libraries would mend or refuse. */
async function sendRaw(method: string, path: string, headers: readonly string[], body: Buffer | string): Promise<Raw> {
  const content = Buffer.from(body as string);
  const head = [
    `${method} ${path} HTTP/1.1`, "Host: localhost", `X-API-KEY: ${rest.adminKey.secret}`, "Connection: close",
    ...(headers.some((header) => /^(content-length|transfer-encoding)/i.test(header)) ? [] : [`Content-Length: ${content.length}`]),
    ...headers, "", "",
  ].join("\r\n");
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (chunks.length === 0) reject(error);
    });
    socket.on("close", () => {
      const text = Buffer.concat(chunks).toString();
      resolve({ status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]), body: text.slice(text.indexOf("\r\n\r\n") + 4) });
    });
    socket.write(Buffer.concat([Buffer.from(head), content]));
  });
}

const json = "Content-Type: application/json";
const eventPath = "/v1/metrics/words/event";
const event = (fields: string): string => `{"user":{"id":"known"},"value":1,${fields}}`;
const valued = (value: string): string => `{"user":{"id":"known"},"value":${value}}`;
const identified = (id: string): string => `{"user":{"id":${id}},"value":1}`;

const summary = (of: string, query: string): string => `/v1/users/known/${of}/event-summary?${query}`;
const batched = (fields: string): string => `{"key":"words","user":{"id":"known"},${fields}}`;

type Case = readonly [what: string, status: number, method: string, path: string, body: string | Buffer, headers?: readonly string[]];

const cases: readonly Case[] = [
  // the body as such
  ["malformed JSON", 400, "POST", eventPath, "{"],
  ["no body", 400, "POST", eventPath, ""],
  ["JSON with a raw NUL", 400, "POST", eventPath, valued("1\0")],
  ["NaN as a literal", 400, "POST", eventPath, valued("NaN")],
  ["a body that is not UTF-8", 400, "POST", eventPath, Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
  ["a body of more than a megabyte", 413, "POST", eventPath, valued(`"${"9".repeat(1_100_000)}"`)],
  ["a batch of more than five megabytes", 413, "POST", "/admin/v1/metrics", `[${" ".repeat(5_300_000)}]`],
  ["another content type", 415, "POST", eventPath, valued("1"), ["Content-Type: text/xml"]],
  ["a form", 415, "POST", eventPath, "value=1", ["Content-Type: application/x-www-form-urlencoded"]],
  ["another charset", 415, "POST", eventPath, valued("1"), ["Content-Type: application/json; charset=utf-16"]],
  ["a compressed body", 415, "POST", eventPath, valued("1"), [json, "Content-Encoding: gzip"]],
  ["an array for the object", 422, "POST", eventPath, "[]"],
  ["null for the object", 422, "POST", eventPath, "null"],
  ["a string for the object", 422, "POST", eventPath, '"x"'],
  ["a number for the object", 422, "PUT", "/v1/users/known", "5"],
  ["an object nested a hundred thousand deep", 422, "POST", eventPath, `${'{"user":'.repeat(100_000)}1${"}".repeat(100_000)}`],
  ["deep nesting in an attribute", 422, "POST", eventPath, event(`"attributes":{"device":${"[".repeat(50_000)}${"]".repeat(50_000)}}`)],
  ["deep nesting with an escape", 422, "POST", eventPath, event(`"attributes":{"device":${"[".repeat(50_000)}"\\u0041"${"]".repeat(50_000)}}`)],
  ["__proto__ as a key", 422, "POST", eventPath, event('"__proto__":{"value":2}')],
  ["__proto__ escaped", 422, "POST", eventPath, event('"\\u005f_proto__":{"value":2}')],
  ["__proto__ as an attribute", 422, "POST", eventPath, event('"attributes":{"__proto__":"x"}')],
  ["constructor as an attribute", 422, "POST", eventPath, event('"attributes":{"constructor":"x"}')],
  ["toString as a user attribute", 422, "PATCH", "/v1/users/known", '{"attributes":{"toString":"x"}}'],
  // the value
  ["a missing value", 422, "POST", eventPath, '{"user":{"id":"known"}}'],
  ["a null value", 422, "POST", eventPath, valued("null")],
  ["true as value", 422, "POST", eventPath, valued("true")],
  ["an array as value", 422, "POST", eventPath, valued("[1]")],
  ["an object as value", 422, "POST", eventPath, valued('{"value":1}')],
  ["words as value", 422, "POST", eventPath, valued('"five"')],
  ["an empty string as value", 422, "POST", eventPath, valued('""')],
  ["NaN in a string", 422, "POST", eventPath, valued('"NaN"')],
  ["Infinity in a string", 422, "POST", eventPath, valued('"-Infinity"')],
  ["hexadecimal in a string", 422, "POST", eventPath, valued('"0x10"')],
  ["underscores in a string", 422, "POST", eventPath, valued('"1_000"')],
  ["1e400", 422, "POST", eventPath, valued("1e400")],
  ["1e999999999", 422, "POST", eventPath, valued("1e999999999")],
  ["1e-10", 422, "POST", eventPath, valued("1e-10")],
  ["1e-400, which a double takes for 0", 422, "POST", eventPath, valued("1e-400")],
  ["ten decimals", 422, "POST", eventPath, valued("0.1234567891")],
  ["sixteen digits", 422, "POST", eventPath, valued("1000000000000000")],
  ["digits that a double would drop", 422, "POST", eventPath, valued("1.00000000000000000001")],
  ["a million digits", 422, "POST", eventPath, valued("1".repeat(900_000))],
  // the user
  ["no user", 422, "POST", eventPath, '{"value":1}'],
  ["an array as user", 422, "POST", eventPath, '{"user":[],"value":1}'],
  ["a text as user", 422, "POST", eventPath, '{"user":"known","value":1}'],
  ["a number as user ID", 422, "POST", eventPath, identified("5")],
  ["an empty user ID", 422, "POST", eventPath, identified('""')],
  ["a user ID of 256 characters", 422, "POST", eventPath, identified(`"${"x".repeat(256)}"`)],
  ["NUL in a user ID", 422, "POST", eventPath, identified('"a\\u0000b"')],
  ["half a surrogate pair in a user ID", 422, "POST", eventPath, identified('"a\\ud800"')],
  ["the other half", 422, "POST", eventPath, identified('"\\uDC00a"')],
  ["NUL in a name", 422, "POST", "/v1/users", '{"id":"new","name":"\\u0000"}'],
  ["half a surrogate pair in an attribute", 422, "POST", "/v1/users", '{"id":"new","attributes":{"plan":"\\ud83d"}}'],
  ["an unknown time zone", 422, "POST", "/v1/users", '{"id":"new","tz":"Mars/Olympus"}'],
  ["an offset as time zone", 422, "POST", "/v1/users", '{"id":"new","tz":"+02:00"}'],
  ["a number as time zone", 422, "POST", "/v1/users", '{"id":"new","tz":2}'],
  ["a text for subscribeToEmails", 422, "POST", "/v1/users", '{"id":"new","subscribeToEmails":"yes"}'],
  ["an object for deviceTokens", 422, "POST", "/v1/users", '{"id":"new","deviceTokens":{}}'],
  ["a number among deviceTokens", 422, "POST", "/v1/users", '{"id":"new","deviceTokens":["a",1]}'],
  ["101 deviceTokens", 422, "POST", "/v1/users", `{"id":"new","deviceTokens":[${Array(101).fill('"t"').join()}]}`],
  ["an undeclared user attribute", 422, "POST", "/v1/users", '{"id":"new","attributes":{"nope":"x"}}'],
  ["an event attribute for a user", 422, "POST", "/v1/users", '{"id":"new","attributes":{"device":"x"}}'],
  ["a number as attribute value", 422, "POST", "/v1/users", '{"id":"new","attributes":{"plan":5}}'],
  ["an array as attributes", 422, "POST", "/v1/users", '{"id":"new","attributes":["plan"]}'],
  ["an attribute value of 1,001 characters", 422, "POST", "/v1/users", `{"id":"new","attributes":{"plan":"${"x".repeat(1001)}"}}`],
  ["a faulty inline profile", 422, "POST", eventPath, '{"user":{"id":"new","tz":"nowhere"},"value":1}'],
  ["a user ID of 256 characters in the address", 422, "PUT", `/v1/users/${"x".repeat(256)}`, "{}"],
  ["NUL in the address", 422, "PUT", "/v1/users/a%00b", "{}"],
  ["broken percent-encoding", 400, "GET", "/v1/users/%", ""],
  ["percent-encoding that is not UTF-8", 400, "GET", "/v1/users/%ff", ""],
  ["broken percent-encoding for an event", 400, "POST", "/v1/metrics/%E0%A4%A/event", valued("1")],
  // the event
  ["an unknown metric", 404, "POST", "/v1/metrics/nope/event", valued("1")],
  ["a metric's key that cannot be", 404, "POST", "/v1/metrics/a%20b/event", valued("1")],
  ["NUL in a metric's key", 422, "POST", "/v1/metrics/a%00b/event", valued("1")],
  ["an undeclared event attribute", 422, "POST", eventPath, event('"attributes":{"plan":"x"}')],
  ["null as an attribute's value", 422, "POST", eventPath, event('"attributes":{"device":null}')],
  ["an array as event attributes", 422, "POST", eventPath, event('"attributes":[]')],
  ["a far-future time", 422, "POST", eventPath, event('"occurredAt":"2999-01-01T00:00:00Z"')],
  ["a time without a zone", 422, "POST", eventPath, event('"occurredAt":"2020-01-01T00:00:00"')],
  ["a day that is not", 422, "POST", eventPath, event('"occurredAt":"2021-02-29T00:00:00Z"')],
  ["the year 0", 422, "POST", eventPath, event('"occurredAt":"0000-01-01T00:00:00Z"')],
  ["infinity as time", 422, "POST", eventPath, event('"occurredAt":"infinity"')],
  ["a number as time", 422, "POST", eventPath, event('"occurredAt":0')],
  ["an idempotency key of 256 characters", 422, "POST", eventPath, valued("1"), [json, `Idempotency-Key: ${"k".repeat(256)}`]],
  ["an empty idempotency key", 422, "POST", eventPath, valued("1"), [json, "Idempotency-Key:"]],
  ["two idempotency keys", 400, "POST", eventPath, valued("1"), [json, "Idempotency-Key: a", "Idempotency-Key: b"]],
  ["two tenants", 400, "POST", eventPath, valued("1"), [json, "Tenant-ID: default", "Tenant-ID: other"]],
  ["an unknown tenant", 404, "POST", eventPath, valued("1"), [json, "Tenant-ID: nobody"]],
  ["an unknown tenant of the admin API", 404, "GET", "/admin/v1/metrics", "", ["Tenant-ID: nobody"]],
  // reading
  ["an unknown user", 404, "GET", "/v1/users/nobody", ""],
  ["an unknown points system", 404, "GET", "/v1/users/known/points/nope", ""],
  ["101 awards", 422, "GET", "/v1/users/known/points/xp?awards=101", ""],
  ["awards in words", 422, "GET", "/v1/users/known/points/xp?awards=ten", ""],
  ["awards twice", 422, "GET", "/v1/users/known/points/xp?awards=1&awards=2", ""],
  ["an unknown address", 404, "GET", "/v1/nothing", ""],
  ["an unknown address of the admin API", 404, "GET", "/admin/v1/nothing", ""],
  ["a method that is not there", 405, "DELETE", "/v1/users/known", ""],
  ["an event by GET", 405, "GET", eventPath, ""],
  // configuration
  ["an object for a batch", 422, "POST", "/admin/v1/metrics", '{"name":"x","key":"x"}'],
  ["an empty batch", 422, "POST", "/admin/v1/metrics", "[]"],
  ["101 items", 422, "POST", "/admin/v1/metrics", JSON.stringify(Array(101).fill({ name: "x", key: "x" }))],
  ["no IDs to delete", 422, "DELETE", "/admin/v1/metrics", ""],
  ["empty IDs to delete", 422, "DELETE", "/admin/v1/metrics?ids=,,", ""],
  ["101 IDs to delete", 422, "DELETE", `/admin/v1/metrics?ids=${Array.from({ length: 101 }, (_, index) => `i${index}`).join()}`, ""],
  ["an ID that is no UUID", 422, "GET", "/admin/v1/metrics/words", ""],
  ["a system that is no UUID", 422, "GET", "/admin/v1/points/xp/levels", ""],
  ["limit 0", 422, "GET", "/admin/v1/metrics?limit=0", ""],
  ["limit 101", 422, "GET", "/admin/v1/metrics?limit=101", ""],
  ["a negative skip", 422, "GET", "/admin/v1/metrics?skip=-1", ""],
  ["a huge skip", 422, "GET", "/admin/v1/metrics?skip=99999999999", ""],
  ["NUL in a key of a batch", 422, "POST", "/admin/v1/metrics", '[{"name":"x","key":"a\\u0000"}]'],
  // summaries and other reads
  ["no aggregation", 422, "GET", summary("points/xp", "startDate=2026-01-01&endDate=2026-01-02"), ""],
  ["an unknown aggregation", 422, "GET", summary("points/xp", "aggregation=hourly&startDate=2026-01-01&endDate=2026-01-02"), ""],
  ["a range without an end", 422, "GET", summary("points/xp", "aggregation=daily&startDate=2026-01-01"), ""],
  ["a range that ends before it starts", 422, "GET", summary("metrics/words", "aggregation=daily&startDate=2026-01-02&endDate=2026-01-01"), ""],
  ["a range of 401 days", 422, "GET", summary("metrics/words", "aggregation=daily&startDate=2025-01-01&endDate=2026-02-06"), ""],
  ["a date that is none", 422, "GET", summary("metrics/words", "aggregation=daily&startDate=2026-02-30&endDate=2026-03-01"), ""],
  ["a date in another form", 422, "GET", summary("metrics/words", "aggregation=daily&startDate=01/02/2026&endDate=2026-03-01"), ""],
  ["infinity as date", 422, "GET", summary("metrics/words", "aggregation=daily&startDate=-infinity&endDate=2026-03-01"), ""],
  ["a summary of an unknown metric", 404, "GET", summary("metrics/none", "aggregation=daily&startDate=2026-01-01&endDate=2026-01-02"), ""],
  ["a moment without a zone", 422, "GET", "/v1/users/known/points/xp?at=2026-01-01T00:00:00", ""],
  ["a moment in words", 422, "GET", "/v1/users/known/points/xp?at=now", ""],
  ["a cursor that is none", 422, "GET", "/v1/users/known/points/xp/awards?cursor=-1", ""],
  ["a cursor of 30 digits", 422, "GET", `/v1/users/known/points/xp/awards?cursor=${"9".repeat(30)}`, ""],
  ["awards of an unknown user", 404, "GET", "/v1/users/nobody/points/xp/awards", ""],
  ["a filter in another form", 422, "GET", "/v1/points/xp/summary?userAttributes=plan", ""],
  ["a filter by an unknown attribute", 422, "GET", "/v1/points/xp/summary?userAttributes=nope:x", ""],
  ["a filter by an event attribute", 422, "GET", "/v1/points/xp/summary?userAttributes=device:x", ""],
  ["a filter with NUL", 422, "GET", "/v1/points/xp/summary?userAttributes=plan:%00", ""],
  ["levels of a system without any", 422, "GET", "/v1/points/xp/level-summary", ""],
  ["yes for includeFinished", 422, "GET", "/v1/points/xp/boosts?includeFinished=yes", ""],
  ["a summary by POST", 405, "POST", "/v1/points/xp/summary", "{}"],
  // preferences
  ["an array as preferences", 422, "PATCH", "/v1/users/known/preferences", "[]"],
  ["an unknown preference", 422, "PATCH", "/v1/users/known/preferences", '{"colour":"red"}'],
  ["an unknown notification", 422, "PATCH", "/v1/users/known/preferences", '{"notifications":{"news":[]}}'],
  ["an unknown channel", 422, "PATCH", "/v1/users/known/preferences", '{"notifications":{"recap":["fax"]}}'],
  ["a channel three times", 422, "PATCH", "/v1/users/known/preferences", '{"notifications":{"recap":["email","email","push"]}}'],
  ["a text for enabled", 422, "PATCH", "/v1/users/known/preferences", '{"streak":{"enabled":"no"}}'],
  ["streak rules that are switched off", 403, "PATCH", "/v1/users/known/preferences", '{"streak":{"evaluationMode":"AND"}}'],
  ["an unknown streak metric", 422, "PATCH", "/v1/users/known/preferences", '{"streak":{"metrics":[{"key":"nope","threshold":1}]}}'],
  ["a threshold of 0", 422, "PATCH", "/v1/users/known/preferences", '{"streak":{"metrics":[{"key":"words","threshold":0}]}}'],
  ["an eighth weekday", 422, "PATCH", "/v1/users/known/preferences", '{"streak":{"daysOff":[7]}}'],
  ["a weekday twice", 422, "PATCH", "/v1/users/known/preferences", '{"streak":{"daysOff":[1,1]}}'],
  ["preferences of an unknown user", 404, "PATCH", "/v1/users/nobody/preferences", "{}"],
  ["a sign-up day that is not", 422, "PATCH", "/v1/users/known", '{"signUpDate":"2026-02-30"}'],
  ["a sign-up day to come", 422, "PATCH", "/v1/users/known", '{"signUpDate":"2999-01-01"}'],
  ["a number as sign-up day", 422, "PATCH", "/v1/users/known", '{"signUpDate":20260101}'],
  // settings
  ["a list for settings", 422, "PATCH", "/admin/v1/settings", "[]"],
  ["null for branding", 422, "PATCH", "/admin/v1/settings", '{"branding":null}'],
  ["null for experimentation", 422, "PATCH", "/admin/v1/settings", '{"experimentation":null}'],
  ["an empty app name", 422, "PATCH", "/admin/v1/settings", '{"branding":{"appName":""}}'],
  ["a null app name", 422, "PATCH", "/admin/v1/settings", '{"branding":{"appName":null}}'],
  ["an app URL that is none", 422, "PATCH", "/admin/v1/settings", '{"branding":{"appUrl":"acme"}}'],
  ["an app URL that is a script", 422, "PATCH", "/admin/v1/settings", '{"branding":{"appUrl":"javascript:alert(1)"}}'],
  ["a color by name", 422, "PATCH", "/admin/v1/settings", '{"branding":{"brandColor":"red"}}'],
  ["a color of five digits", 422, "PATCH", "/admin/v1/settings", '{"branding":{"brandColor":"#12345"}}'],
  ["a color with more behind it", 422, "PATCH", "/admin/v1/settings", '{"branding":{"brandColor":"#123;x"}}'],
  ["an unknown font", 422, "PATCH", "/admin/v1/settings", '{"branding":{"font":"COMIC_SANS"}}'],
  ["a logo of text", 422, "PATCH", "/admin/v1/settings", '{"branding":{"logo":"https://a.example"}}'],
  ["a logo without its URL", 422, "PATCH", "/admin/v1/settings", '{"branding":{"logo":{}}}'],
  ["an icon that is no address", 422, "PATCH", "/admin/v1/settings", '{"branding":{"appIcon":{"url":"x y"}}}'],
  ["a control ratio of 101", 422, "PATCH", "/admin/v1/settings", '{"experimentation":{"controlRatio":101}}'],
  ["a control ratio below 0", 422, "PATCH", "/admin/v1/settings", '{"experimentation":{"controlRatio":-1}}'],
  ["half a percent", 422, "PATCH", "/admin/v1/settings", '{"experimentation":{"controlRatio":0.5}}'],
  ["a window of 2 days", 422, "PATCH", "/admin/v1/settings", '{"experimentation":{"userActivationWindow":2}}'],
  ["a window of 31 days", 422, "PATCH", "/admin/v1/settings", '{"experimentation":{"userActivationWindow":31}}'],
  ["a window in a string", 422, "PATCH", "/admin/v1/settings", '{"experimentation":{"userActivationWindow":"7"}}'],
  ["a period of days", 422, "PATCH", "/admin/v1/settings", '{"aggregationPeriod":"daily"}'],
  ["right and wrong settings together", 422, "PATCH", "/admin/v1/settings", '{"branding":{"appName":"Right"},"experimentation":{"controlRatio":900}}'],
  ["making an environment", 405, "POST", "/admin/v1/environments", "{}"],
  // batches of events
  ["a batch that is an object", 422, "POST", "/admin/v1/metrics/events", '{"key":"words"}'],
  ["a batch of none", 422, "POST", "/admin/v1/metrics/events", "[]"],
  ["a batch of 1,001", 422, "POST", "/admin/v1/metrics/events", `[${Array(1001).fill(batched('"value":1')).join()}]`],
  ["a batch with an unknown metric", 404, "POST", "/admin/v1/metrics/events", `[${batched('"value":1')},{"key":"nope","user":{"id":"known"},"value":1}]`],
  ["a batch without a value", 422, "POST", "/admin/v1/metrics/events", `[${batched('"x":1')}]`],
  ["a batch with NaN", 422, "POST", "/admin/v1/metrics/events", `[${batched('"value":"NaN"')}]`],
  ["a batch with 1e400", 422, "POST", "/admin/v1/metrics/events", `[${batched('"value":1e400')}]`],
  ["a batch with ten decimals", 422, "POST", "/admin/v1/metrics/events", `[${batched('"value":0.1234567891')}]`],
  ["a batch with digits that a double would drop", 422, "POST", "/admin/v1/metrics/events", `[${batched('"value":1.00000000000000000001')}]`],
  ["a batch with a far-future time", 422, "POST", "/admin/v1/metrics/events", `[${batched('"value":1,"occurredAt":"2999-01-01T00:00:00Z"')}]`],
  ["a batch with the year 0", 422, "POST", "/admin/v1/metrics/events", `[${batched('"value":1,"occurredAt":"0000-01-01T00:00:00Z"')}]`],
  ["a batch with an empty key", 422, "POST", "/admin/v1/metrics/events", `[${batched('"value":1,"idempotencyKey":""')}]`],
  ["a batch with an undeclared attribute", 422, "POST", "/admin/v1/metrics/events", `[${batched('"value":1,"attributes":{"plan":"x"}')}]`],
  ["a batch with an unknown time zone", 422, "POST", "/admin/v1/metrics/events", '[{"key":"words","user":{"id":"known","tz":"Mars"},"value":1}]'],
  ["a batch with NUL", 422, "POST", "/admin/v1/metrics/events", '[{"key":"words","user":{"id":"a\\u0000"},"value":1}]'],
  // other extensions
  ["adjustments of a system that is not there", 404, "POST", "/admin/v1/points/00000000-0000-7000-8000-000000000000/adjustments", '[{"userId":"known","points":1,"reason":"x"}]'],
  ["adjustments that are no list", 422, "POST", "/admin/v1/points/00000000-0000-7000-8000-000000000000/adjustments", '{"userId":"known"}'],
  ["erasing nobody", 404, "DELETE", "/admin/v1/users/nobody", ""],
  ["exporting nobody", 404, "GET", "/admin/v1/users/nobody/export", ""],
  ["limit 0 of the audit log", 422, "GET", "/admin/v1/audit-log?limit=0", ""],
  ["changing the audit log", 405, "DELETE", "/admin/v1/audit-log", ""],
];

describe("is refused with a sentence, and stores nothing:", () => {
  // Each row has all its columns: jest would take a missing one for its own `done`.
  const rows = cases.map(([what, status, method, path, body, headers = [json]]) => [what, status, method, path, body, headers] as const);

  test.each(rows)("%s (%i)", async (_what, status, method, path, body, headers) => {
    const before = await storedState();
    const answer = await sendRaw(method, path, headers, body);
    expect(answer).toEqual({ status, body: expect.any(String) });
    const { error } = JSON.parse(answer.body) as { error: string };
    expect(error).toMatch(/^[A-Z].*\.$|^[a-z]\w*(\.\w+|\[\d+\])* .*\.$|^\w.*\.$/s);
    expect(error).not.toMatch(internals);
    expect(await storedState()).toEqual(before);
  });
});

describe("one item that breaks a rule is an issue:", () => {
  const levels = (): string => `/admin/v1/points/${systemId}/levels`;
  const boosts = (): string => `/admin/v1/points/${systemId}/boosts`;
  const triggers = (): string => `/admin/v1/points/${systemId}/triggers`;
  const boost = { name: "B", start: "2026-01-01", multiplier: 2 };
  const level = { name: "L", key: "l", points: 1 };
  const items: readonly (readonly [string, () => string, unknown, string])[] = [
    ["no object", () => "/admin/v1/metrics", 5, "It must be an object."],
    ["null", () => "/admin/v1/metrics", null, "It must be an object."],
    ["an array", () => "/admin/v1/metrics", [], "It must be an object."],
    ["no name", () => "/admin/v1/metrics", { key: "k" }, "name is required."],
    ["a key with spaces", () => "/admin/v1/metrics", { name: "x", key: "a b" }, "A key has 1 to 255 letters, digits, hyphens and underscores."],
    ["a key of 256 characters", () => "/admin/v1/metrics", { name: "x", key: "k".repeat(256) }, "A key has 1 to 255 letters, digits, hyphens and underscores."],
    ["an empty name", () => "/admin/v1/metrics", { name: "", key: "k" }, "A metric's name has 1 to 255 characters."],
    ["a key in use", () => "/admin/v1/metrics", { name: "x", key: "words" }, "Another metric already has this key."],
    ["an unknown unit type", () => "/admin/v1/metrics", { name: "x", key: "k", unitType: "kg" }, "unitType must be number or currency."],
    ["a currency of no code", () => "/admin/v1/metrics", { name: "x", key: "k", unitType: "currency" }, "A currency metric's units are a three-letter currency code such as USD."],
    ["an attribute of no type", () => "/admin/v1/attributes", { name: "x", key: "k", type: "team" }, "type must be user or event."],
    ["max points of 0", () => "/admin/v1/points", { name: "x", key: "k", maxPoints: 0 }, "The maximum points are at least 1."],
    ["max points beyond 32 bits", () => "/admin/v1/points", { name: "x", key: "k", maxPoints: 2 ** 31 }, "maxPoints is too large: at most 2147483647."],
    ["half a point", () => "/admin/v1/points", { name: "x", key: "k", maxPoints: 1.5 }, "maxPoints must be a whole number."],
    ["a badge of text", () => "/admin/v1/points", { name: "x", key: "k", badge: "u" }, "badge must be an object."],
    ["levels in an object", () => "/admin/v1/points", { name: "x", key: "k", levels: {} }, "levels must be an array."],
    ["a part of the wrong type", () => "/admin/v1/points", { name: "x", key: "k", levels: [{ ...level, points: "1" }] }, "levels[0].points must be a number."],
    ["a part that breaks a rule", () => "/admin/v1/points", { name: "x", key: "k", boosts: [boost, { ...boost, multiplier: 1 }] }, "boosts[1]: A boost's multiplier is above 0, below 100 and not 1."],
    ["a level below 0", levels, { ...level, points: -1 }, "A level's points are at least 0."],
    ["a multiplier of 0", boosts, { ...boost, multiplier: 0 }, "A boost's multiplier is above 0, below 100 and not 1."],
    ["a multiplier of 100", boosts, { ...boost, multiplier: 100 }, "A boost's multiplier is above 0, below 100 and not 1."],
    ["a multiplier of five decimals", boosts, { ...boost, multiplier: 1.00001 }, "A boost's multiplier has at most 4 decimals."],
    ["a multiplier in a string", boosts, { ...boost, multiplier: "2" }, "multiplier must be a number."],
    ["a start that is no date", boosts, { ...boost, start: "tomorrow" }, "start must be a date such as 2026-01-31."],
    ["a day that is not", boosts, { ...boost, start: "2026-02-30" }, "start must be a date such as 2026-01-31."],
    ["an end before the start", boosts, { ...boost, end: "2025-12-31" }, "A boost cannot end before it starts."],
    ["a boost for nobody", boosts, { ...boost, userId: "nobody" }, "The user does not exist."],
    ["a boost for one user with a filter", boosts, { ...boost, userId: "known", userAttributes: [{ attributeId: "00000000-0000-7000-8000-000000000000", attributeValue: "x" }] }, "No user attribute has the ID 00000000-0000-7000-8000-000000000000."],
    ["a filter by no UUID", boosts, { ...boost, userAttributes: [{ attributeId: "plan", attributeValue: "x" }] }, "userAttributes[0].attributeId must be a UUID."],
    ["points of 0", triggers, { type: "user_creation", points: 0 }, "A trigger's points cannot be 0."],
    ["points beyond 32 bits", triggers, { type: "user_creation", points: -(2 ** 31) - 1 }, "points is too small: at least -2147483648."],
    ["an unknown type", triggers, { type: "magic", points: 1 }, "type must be metric or achievement or streak or time or user_creation."],
    ["a metric trigger without its metric", triggers, { type: "metric", points: 1 }, "A metric trigger, and no other, has a metric and a metric threshold."],
    ["a metric that is not", triggers, { type: "metric", points: 1, metricId: "00000000-0000-7000-8000-000000000000", metricThreshold: 1 }, "The metric does not exist."],
    ["a threshold of 0", triggers, { type: "time", points: 1, timeUnit: "days", timeInterval: 0 }, "The time interval is at least 1."],
    ["a streak trigger with a time", triggers, { type: "streak", points: 1, streakLength: 1, timeUnit: "days", timeInterval: 1 }, "A time trigger, and no other, has a time unit and a time interval."],
    ["an achievement that is not", triggers, { type: "achievement", points: 1, achievementId: "00000000-0000-7000-8000-000000000000" }, "The achievement does not exist."],
    ["archived as a status", triggers, { type: "user_creation", points: 1, status: "archived" }, "status must be active or inactive."],
  ];

  test.each(items)("%s", async (_what, path, item, sentence) => {
    const before = await storedState();
    const answer = await rest.as().post(path(), [item]).expect(200);
    expect(sentencesOf(answer)).toEqual([sentence]);
    expect(await storedState()).toEqual(before);
  });

  test("an attribute in use is not deleted, nor a metric that pays", async () => {
    const [plan] = idsOf(await rest.as().post("/admin/v1/attributes", [{ name: "Used", key: "used", type: "user" }]));
    const [metric] = idsOf(await rest.as().post("/admin/v1/metrics", [{ name: "Used", key: "used" }]));
    const trigger = { type: "metric", points: 1, status: "active", metricId: metric, metricThreshold: 1, userAttributes: [{ attributeId: plan, attributeValue: "x" }] };
    const [id = ""] = idsOf(await rest.as().post(triggers(), [trigger]).expect(201));
    expect(sentencesOf(await rest.as().delete(`/admin/v1/attributes?ids=${plan}`))).toEqual([
      "The attribute used is used by a points trigger; change that first.",
    ]);
    expect(sentencesOf(await rest.as().delete(`/admin/v1/metrics?ids=${metric}`))).toEqual([
      "The metric used is used by an active points trigger; deactivate or delete the trigger first.",
    ]);
    await rest.as().delete(`${triggers()}?ids=${id}`).expect(200, { deleted: [{ id }], issues: [] });
    await rest.as().delete(`/admin/v1/attributes?ids=${plan}`).expect(200, { deleted: [{ id: plan }], issues: [] });
    await rest.as().delete(`/admin/v1/metrics?ids=${metric}`).expect(200, { deleted: [{ id: metric }], issues: [] });
  });
});

describe("what is odd but right is taken:", () => {
  test.each([
    ["-0", "-0", 0],
    ["0.1", "0.1", 0.1],
    ["1e2", "1e2", 100],
    ["a decimal string", '"12.50"', 12.5],
    ["nine decimals", "0.000000001", 0.000000001],
    ["fifteen digits", "999999999999999", 999999999999999],
    ["more digits than a double has", "123456789012345.123456789", 123456789012345.123456789],
  ])("%s", async (what, value, total) => {
    const answer = await sendRaw("POST", eventPath, [json], `{"user":{"id":${JSON.stringify(what)}},"value":${value}}`);
    expect(answer.status).toBe(201);
    expect(JSON.parse(answer.body)).toMatchObject({ total });
  });

  test("and keeps its digits", async () => {
    const found = await rest.database.pools.owner.query(
      "select value::text from laurel.metric_events where user_id = 'more digits than a double has'",
    );
    expect(found.rows).toEqual([{ value: "123456789012345.123456789" }]);
  });

  test("a user read can be sent back as it is", async () => {
    const read = await rest.as().get("/v1/users/known").expect(200);
    const back = await rest.as().put("/v1/users/known", read.body).expect(200);
    expect(back.body).toEqual(read.body);
  });

  test("metric IDs exist for triggers to name", () => {
    expect(metricId).toMatch(/^[0-9a-f-]{36}$/);
  });
});
