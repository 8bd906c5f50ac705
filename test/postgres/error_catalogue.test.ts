import { beforeAll, expect, test } from "@jest/globals";
import { errorCatalogue, readConstraintSentences, toHttpError } from "../../src/postgres/errors.ts";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await cloneDatabase();
});

test("the catalogue in TypeScript is the database's", async () => {
  const found = await database.pools.owner.query<{ code: string; httpStatus: number; name: string }>(
    'select code, http_status as "httpStatus", name from laurel_private.error_catalogue() order by code',
  );
  expect([...errorCatalogue.values()].sort((a, b) => (a.code < b.code ? -1 : 1))).toEqual(found.rows);
});

test("a broken constraint is told by its comment", async () => {
  const { owner } = database.pools;
  const sentences = await readConstraintSentences(owner);
  const breaking = async (statement: string): Promise<unknown> =>
    owner.query(statement).then(
      () => undefined,
      (error: unknown) => toHttpError(error, sentences),
    );
  await owner.query("insert into laurel.metrics (key, name) values ('words', 'Words')");
  await expect(breaking("insert into laurel.metrics (key, name) values ('words', 'Words')")).resolves.toEqual({
    status: 422,
    body: { error: "Another metric already has this key.", field: "key" },
  });
  await expect(breaking("insert into laurel.metrics (key, name) values ('a b', 'Words')")).resolves.toEqual({
    status: 422,
    body: { error: "A key has 1 to 255 letters, digits, hyphens and underscores.", field: "key" },
  });
  await expect(breaking("insert into laurel.metrics (key, name) values ('x', '')")).resolves.toEqual({
    status: 422,
    body: { error: "A metric's name has 1 to 255 characters.", field: "name" },
  });
});

test("every check, unique and foreign key constraint of configuration that callers write has its sentence", async () => {
  const found = await database.pools.owner.query(`
    select r.relname || '.' || c.conname as name from pg_constraint c join pg_class r on r.oid = c.conrelid
    where c.contype in ('c', 'u', 'f') and obj_description(c.oid, 'pg_constraint') is null
      and r.oid in ('laurel.metrics'::regclass, 'laurel.attributes'::regclass, 'laurel.points_systems'::regclass,
        'laurel.points_levels'::regclass, 'laurel.points_boosts'::regclass, 'laurel.points_triggers'::regclass)
      and c.conname not like '%tenant_id_fkey' and c.conname not like '%referred_to_within_their_tenant'`);
  expect(found.rows).toEqual([]);
});
