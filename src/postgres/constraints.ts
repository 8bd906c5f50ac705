import type { Pool } from "pg";

/** What to tell a caller who breaks a constraint, by the constraint's name: its comment in the database. */
export type ConstraintSentences = ReadonlyMap<string, string>;

/**
 * Reads the sentences of all constraints and unique indexes of schema laurel. They change with migrations only: read
 * them once. Any login may.
 */
export async function readConstraintSentences(pool: Pool): Promise<ConstraintSentences> {
  const found = await pool.query<{ name: string; sentence: string }>(`
    select c.conname as name, obj_description(c.oid, 'pg_constraint') as sentence
    from pg_constraint c
    where c.connamespace = (select n.oid from pg_namespace n where n.nspname = 'laurel')
      and obj_description(c.oid, 'pg_constraint') is not null
    union
    select i.relname, obj_description(i.oid, 'pg_class')
    from pg_class i
    where i.relkind in ('i', 'I')
      and i.relnamespace = (select n.oid from pg_namespace n where n.nspname = 'laurel')
      and obj_description(i.oid, 'pg_class') is not null`);
  return new Map(found.rows.map(({ name, sentence }) => [name, sentence]));
}
