import { createHmac } from "node:crypto";
import { Client, DatabaseError, escapeIdentifier, escapeLiteral } from "pg";
import { ConfigError } from "../config.ts";
import { databaseRoles } from "./pools.ts";
import { waitFor } from "./processes.ts";

/** The login of request pools: it inherits nothing and owns nothing, and may become the roles of `databaseRoles`. */
export const serverLogin = "laurel_server";
const serverAttributes = "login noinherit";

/**
 * The connection string of the weak login: the owner's with another user. Its password follows from the owner's, so
 * that all processes agree without storing it; without one (a socket that trusts us) it has none either.
 */
export function serverConnectionString(ownerUrl: string, ownerPassword: string | undefined): string {
  const match = /^(postgres(?:ql)?:\/\/)(?:[^@/]*@)?(.*)$/s.exec(ownerUrl);
  const [, scheme = "postgresql://", rest = ""] = match ?? [];
  const password = serverPassword(ownerPassword);
  return `${scheme}${serverLogin}${password === undefined ? "" : `:${password}`}@${rest}`;
}

function serverPassword(ownerPassword: string | undefined): string | undefined {
  if (ownerPassword === undefined) return undefined;
  return createHmac("sha256", ownerPassword).update(serverLogin).digest("base64url");
}

/**
 * Makes the roles that migrations grant to, and the weak login, where they are missing. Roles belong to the whole
 * cluster, so that another database's Laurel may be making them at this very moment: losing that race counts as done.
 * Throws `ConfigError` when the owner may not make them.
 */
export async function ensureRoles(
  client: Client,
  options: { readonly ownerPassword: string | undefined; readonly withServerLogin: boolean },
): Promise<void> {
  for (const role of databaseRoles) await ensureRole(client, role, "nologin noinherit");
  if (!options.withServerLogin) return;
  await ensureRole(client, serverLogin, serverAttributes);
  await ensureServerAttributes(client);
  for (const role of databaseRoles) await ensureMembership(client, role);
  await ensureServerPassword(client, options.ownerPassword);
}

async function ensureRole(client: Client, role: string, attributes: string): Promise<void> {
  const exists = async (): Promise<boolean> =>
    (await client.query("select from pg_roles where rolname = $1", [role])).rowCount === 1;
  await settle(client, exists, `create role ${escapeIdentifier(role)} ${attributes}`);
}

// One that a dump of roles brought may lack them: only superusers restore attributes.
async function ensureServerAttributes(client: Client): Promise<void> {
  const areRight = async (): Promise<boolean> =>
    (await client.query("select from pg_roles where rolname = $1 and rolcanlogin and not rolinherit", [serverLogin]))
      .rowCount === 1;
  await settle(client, areRight, `alter role ${serverLogin} ${serverAttributes}`);
}

async function ensureMembership(client: Client, role: string): Promise<void> {
  const isMember = async (): Promise<boolean> => {
    const found = await client.query(
      "select from pg_auth_members where roleid = $1::regrole and member = $2::regrole",
      [role, serverLogin],
    );
    return found.rowCount !== 0;
  };
  // Before 16 inheriting is the member's attribute alone, and a member can always take the role.
  const how = (await serverVersion(client)) >= 160000 ? " with inherit false, set true" : "";
  await settle(client, isMember, `grant ${escapeIdentifier(role)} to ${serverLogin}${how}`);
}

async function ensureServerPassword(client: Client, ownerPassword: string | undefined): Promise<void> {
  const password = serverPassword(ownerPassword);
  if (password === undefined) return;
  const isRight = async (): Promise<boolean> => {
    const probe = new Client({
      host: client.host,
      port: client.port,
      ...(client.database === undefined ? {} : { database: client.database }),
      ssl: client.ssl,
      user: serverLogin,
      password,
    });
    probe.on("error", () => undefined);
    try {
      await probe.connect();
      return true;
    } catch (error) {
      const { code = "" } = error as { code?: string };
      if (code.startsWith("28")) return false; // wrong password
      throw error;
    } finally {
      await probe.end().catch(() => undefined);
    }
  };
  await settle(client, isRight, `alter role ${serverLogin} password ${escapeLiteral(password)}`);
}

/** Errors that say somebody else changed the same role meanwhile; XX000 is "tuple concurrently updated". */
const lostRaces: ReadonlySet<string> = new Set(["23505", "42710", "XX000", "40001"]);
const raceDeadlineMs = 10_000;

/** Runs `statement` unless what it makes `isThere`, again after a lost race. */
async function settle(client: Client, isThere: () => Promise<boolean>, statement: string): Promise<void> {
  await waitFor(`the roles, which others are changing (${statement.slice(0, 40)})`, raceDeadlineMs, async () => {
    if (await isThere()) return true;
    try {
      await client.query(statement);
      return true;
    } catch (error) {
      const { code = "" } = error as { code?: string };
      if (error instanceof DatabaseError && code === "42501") {
        throw new ConfigError(
          `DATABASE_URL: its user may not make the database roles. Give it CREATEROLE, or let an administrator make ${databaseRoles.join(", ")} (nologin) and a login that may become them, and put that in LAUREL_SERVER_DATABASE_URL`,
        );
      }
      if (lostRaces.has(code)) return false;
      throw error;
    }
  });
}

async function serverVersion(client: Client): Promise<number> {
  const found = await client.query<{ version: number }>(
    "select current_setting('server_version_num')::int as version",
  );
  return found.rows[0]?.version ?? 0;
}
