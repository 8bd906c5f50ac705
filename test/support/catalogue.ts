import type { ClientBase } from "pg";

/** Everything of a database that a migration makes, one line for each object, sorted; to be compared. */
export async function readCatalogue(client: ClientBase): Promise<string[]> {
  // Names are shown in full whatever the search path of the caller.
  await client.query("set search_path = pg_catalog");
  const lines: string[] = [];
  for (const [kind, query] of Object.entries(queries)) {
    const found = await client.query<{ line: string }>(query);
    lines.push(...found.rows.map(({ line }) => `${kind}: ${line}`));
  }
  return lines.sort();
}

/** Ours are the schemas whose name begins with laurel. */
const ours = "n.nspname ~ '^laurel'";

const queries: Readonly<Record<string, string>> = {
  schema: `
    select concat_ws(' ', n.nspname, n.nspacl::text, obj_description(n.oid, 'pg_namespace')) as line
    from pg_namespace n where ${ours}`,
  relation: `
    select concat_ws(' ', n.nspname, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
      c.reloptions::text, c.relacl::text, c.relispartition, pg_get_expr(c.relpartbound, c.oid),
      pg_get_partkeydef(c.oid), pg_get_viewdef(c.oid), obj_description(c.oid, 'pg_class')) as line
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where ${ours} and c.relkind not in ('i', 'I', 't')`,
  column: `
    select concat_ws(' ', n.nspname, c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
      a.attidentity, a.attgenerated, a.attstorage, a.attstattarget, a.attacl::text, pg_get_expr(d.adbin, d.adrelid),
      col_description(c.oid, a.attnum)) as line
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where ${ours} and c.relkind not in ('i', 'I', 't') and a.attnum > 0 and not a.attisdropped`,
  constraint: `
    select concat_ws(' ', n.nspname, k.conrelid::regclass, k.contypid::regtype, k.conname, pg_get_constraintdef(k.oid),
      k.convalidated, obj_description(k.oid, 'pg_constraint')) as line
    from pg_constraint k join pg_namespace n on n.oid = k.connamespace where ${ours}`,
  index: `
    select concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid, obj_description(i.indexrelid, 'pg_class')) as line
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
    where ${ours}`,
  statistics: `
    select pg_get_statisticsobjdef(s.oid) as line
    from pg_statistic_ext s join pg_namespace n on n.oid = s.stxnamespace where ${ours}`,
  function: `
    select concat_ws(' ', case when p.prokind = 'a' then p.oid::regprocedure::text || ' aggregate'
      else pg_get_functiondef(p.oid) end, p.proacl::text, obj_description(p.oid, 'pg_proc')) as line
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where ${ours}`,
  aggregate: `
    select concat_ws(' ', a.aggfnoid, a.aggkind, a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.agginitval,
      format_type(a.aggtranstype, null)) as line
    from pg_aggregate a join pg_proc p on p.oid = a.aggfnoid join pg_namespace n on n.oid = p.pronamespace
    where ${ours}`,
  trigger: `
    select concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger')) as line
    from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
    where ${ours} and not t.tgisinternal`,
  policy: `
    select concat_ws(' ', p.polrelid::regclass, p.polname, p.polcmd, p.polpermissive,
      (select string_agg(r.rolname, ',' order by r.rolname) from pg_roles r where r.oid = any (p.polroles)),
      pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),
      obj_description(p.oid, 'pg_policy')) as line
    from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
    where ${ours}`,
  type: `
    select concat_ws(' ', n.nspname, t.typname, t.typtype, format_type(t.typbasetype, t.typtypmod), t.typnotnull,
      t.typdefault, t.typacl::text,
      (select string_agg(e.enumlabel, ',' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
      obj_description(t.oid, 'pg_type')) as line
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    where ${ours} and t.typtype in ('d', 'e', 'r', 'm')`,
  sequence: `
    select concat_ws(' ', s.seqrelid::regclass, format_type(s.seqtypid, null), s.seqstart, s.seqincrement, s.seqmin,
      s.seqmax, s.seqcycle) as line
    from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace
    where ${ours}`,
  "default privilege": `
    select concat_ws(' ', d.defaclnamespace::regnamespace, d.defaclrole::regrole, d.defaclobjtype, d.defaclacl::text) as line
    from pg_default_acl d`,
  extension: `
    select concat_ws(' ', e.extname, e.extversion, e.extnamespace::regnamespace) as line from pg_extension e`,
};
