--! Previous: -
--! Hash: sha1:ac6170eb36463f685e2fc28290efe9e0ffa7f450
--! Message: laurel

-- Table of contents: builds the whole database from empty, in this order.

--! Included ground/schemas.sql
-- laurel is the contract that callers may see; laurel_private is the implementation.

create schema laurel;
create schema laurel_private;

grant usage on schema laurel to laurel_admin, laurel_service, laurel_user;
--! EndIncluded ground/schemas.sql
--! Included ground/placeholders.sql
-- Stand-ins for what src/main.ts and tasks/ call, until the real functions arrive. Delete this file then.

create table laurel_private.placeholder_admin_keys (
  prefix text primary key,
  key_sha256 bytea not null
);

create function laurel_private.create_first_admin_key(prefix text, key_sha256 bytea)
returns boolean
language sql volatile
as $$
  with stored as (
    insert into laurel_private.placeholder_admin_keys
    select $1, $2
    where not exists (select from laurel_private.placeholder_admin_keys)
    returning 1
  )
  select exists (select from stored)
$$;

create function laurel_private.ensure_admin_key(prefix text, key_sha256 bytea)
returns void
language sql volatile
as $$
  insert into laurel_private.placeholder_admin_keys values ($1, $2)
  on conflict on constraint placeholder_admin_keys_pkey
  do update set key_sha256 = excluded.key_sha256
$$;

create function laurel_private.maintain_partitions(as_of timestamptz)
returns void
language sql volatile
as $$ select $$;
--! EndIncluded ground/placeholders.sql
