import { expect } from "@jest/globals";
import fc from "fast-check";
import type { Pool } from "pg";
import { first } from "./engine.ts";

/** Wrong values of every kind, for whatever takes input: what must be answered in words, and store nothing. */

/** Repeat a failed run with LAUREL_TEST_SEED; each run of a property says its seed. */
export function seedOf(what: string): number {
  const seed = Number(process.env["LAUREL_TEST_SEED"] ?? Date.now() % 2 ** 31);
  process.stdout.write(`${what}: seed ${seed}\n`);
  return seed;
}

const awkwardTexts = [
  "", " ", "\0", "a\0b", "\ud800", "\udc00x", "\u200b", "😀", "ß", "İ", "\n", "'", '"', "';--", "%", "%00", "_", "\\", "$1", "{}", "[]", "null", "true", "NaN",
  "Infinity", "-Infinity", "1e400", "0x10", "-0", "1_000", "99999999999999999999", "2026-02-30", "infinity", "-infinity", "epoch", "now", "0000-01-01", "2026-01-01",
  "9999-12-31", "10000-01-01", "2026-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "2999-01-01T00:00:00+14:00", "Mars/Base", "UTC", "__proto__", "constructor", "toString",
  "00000000-0000-7000-8000-000000000000", "../..", "<script>",
];

/** Texts: short ones that mean something somewhere, any, and very long ones. */
export const text: fc.Arbitrary<string> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...awkwardTexts) },
  { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 20 }) },
  { weight: 1, arbitrary: fc.constantFrom(255, 256, 1_000, 1_001, 70_000).map((length) => "x".repeat(length)) },
);

export const number: fc.Arbitrary<number> = fc.oneof(
  fc.constantFrom(0, -0, 1, -1, 0.5, 1e-10, 1e15, 1e16, 1e308, -1e308, 2 ** 31 - 1, 2 ** 31, -(2 ** 31) - 1, 2 ** 53, 99, 100, 101),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
);

/** Any JSON value, nested some way. */
export const json: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    fc.constantFrom<unknown>(null, true, false),
    number,
    text,
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(text, tie("value"), { maxKeys: 3, noNullPrototype: true }),
  ),
})).value;

/** JSON Schema, as far as request shapes use it. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly format?: string;
}

/** Values of about a schema's shape: at each place mostly of its kind, sometimes of another. `known` are texts that mean something. */
export function nearly(schema: Schema, known: Readonly<Record<string, readonly string[]>>, name = ""): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 7, arbitrary: kindOf(schema, known, name) }, { weight: 1, arbitrary: json });
}

function kindOf(schema: Schema, known: Readonly<Record<string, readonly string[]>>, name: string): fc.Arbitrary<unknown> {
  const { anyOf, properties, required = [], items, additionalProperties } = schema;
  if (anyOf !== undefined) return fc.oneof(...anyOf.map((one) => kindOf(one, known, name)));
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  switch (schema.type) {
    case "object": {
      const fields = Object.entries(properties ?? {});
      if (fields.length === 0) {
        const inner = typeof additionalProperties === "object" ? additionalProperties : { type: "string" };
        return fc.dictionary(fc.oneof(fc.constantFrom(...(known["attribute"] ?? ["a"])), text), nearly(inner, known), { maxKeys: 3, noNullPrototype: true });
      }
      return fc.record(
        Object.fromEntries(fields.map(([key, one]) => [key, nearly(one, known, key)])),
        { requiredKeys: required.filter((key) => key.length % 2 === 0), noNullPrototype: true },
      );
    }
    case "array":
      return fc.array(nearly(items ?? {}, known, name), { maxLength: 3 });
    case "string": {
      const some = known[name] ?? (schema.format === "uuid" ? known["id"] : undefined);
      const sound = schema.format === "date" ? fc.constantFrom("2020-01-01", "2026-11-24", "2026-12-31") : fc.constantFrom("a", "Name");
      return fc.oneof(some === undefined ? sound : fc.constantFrom(...some), text);
    }
    case "integer":
      return fc.oneof(fc.integer({ min: 0, max: 100 }), number);
    case "number":
      return fc.oneof(fc.double({ min: 0, max: 10, noNaN: true }), number);
    case "boolean":
      return fc.boolean();
    case undefined:
    default:
      return json;
  }
}

/** Words of PostgreSQL's, of its drivers or of stacks, which no caller may read. */
export const internals =
  /select |insert |relation|column |constraint|violates|syntax error|invalid input|pg_|plpgsql|laurel_private|undefined|\[object|node_modules|\.ts\b|at \w+ \(|SQLSTATE/i;

/**
 * Makes what tells all that is stored, row by row, except when keys were used, as text; for "nothing stored". For a database
 * of one's own.
 */
export async function createStoredState(pool: Pool): Promise<() => Promise<string>> {
  const { rows } = await pool.query<{ query: string; tables: string }>(`
    select string_agg(format('select %L as name, count(*) as rows, md5(coalesce(string_agg((to_jsonb(t) - ''last_used_at'')::text, '','' order by to_jsonb(t)::text), '''')) as content from %s t',
      c.oid::regclass, c.oid::regclass), ' union all ') as query, count(*) as tables
    from pg_class c
    where c.relnamespace in ('laurel'::regnamespace, 'laurel_private'::regnamespace) and c.relkind in ('r', 'p') and not c.relispartition
      and c.relname not in ('time_zones', 'points_rules')`);
  const { query = "", tables = "" } = rows[0] ?? {};
  // Asked many times over a few rows: planning it takes longer than reading them, and so does starting parallel workers.
  await pool.query(`
    create function public.stored_state() returns jsonb language plpgsql stable set max_parallel_workers_per_gather = 0 set jit = off as $$
    begin
      return (select jsonb_object_agg(s.name, array[s.rows::text, s.content]) from (${query}) s);
    end $$`);
  return async () => {
    const { state } = first((await pool.query<{ state: Record<string, unknown> }>("select public.stored_state() as state")).rows);
    expect(Object.keys(state)).toHaveLength(Number(tables));
    return JSON.stringify(state);
  };
}
