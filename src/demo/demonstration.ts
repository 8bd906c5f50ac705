import type { Pools } from "../postgres/pools.ts";
import { inTransaction } from "../postgres/transactions.ts";
import { createEventLoader } from "../imports/event_loader.ts";
import type { EventRow } from "../imports/event_rows.ts";
import { type Author, authorsOf, eventsOf } from "./commit_events.ts";
import { type Commit, readGitHistory } from "./git_history.ts";
import { boostUser, setUpPointsSystem } from "./points_system.ts";
import { postEvent, type RestServer } from "./rest_events.ts";

/** What a demonstration needs. */
export interface DemonstrationOptions {
  readonly pools: Pick<Pools, "admin" | "service" | "owner">;
  /** A folder inside a Git repository. */
  readonly path: string;
  /** The newest so many commits. */
  readonly mostCommits: number;
  /** A running server that takes the last events; without one they go in by SQL like the rest. */
  readonly server: RestServer | undefined;
  readonly onProgress: (done: number, all: number) => void;
}

/** What a demonstration has to show. */
export interface Demonstration {
  readonly commits: readonly Commit[];
  readonly authors: readonly Author[];
  readonly isNewSystem: boolean;
  readonly maxPoints: number;
  readonly events: { readonly stored: number; readonly replayed: number; readonly byRest: number; readonly refused: readonly string[] };
  readonly seconds: number;
  readonly leaders: readonly { readonly userId: string; readonly name: string; readonly total: string; readonly level: string | null }[];
  readonly levels: readonly { readonly name: string; readonly points: number; readonly users: string }[];
  readonly explained: { readonly id: string; readonly explanation: string } | undefined;
  readonly brokenInvariants: number;
}

/** Authors with a profile of their own: the first of them has a boost, too. */
const coreTeamSize = 5;
/** Events that go in by REST where a server runs. */
const restEvents = 9;
const batchSize = 500;

/**
 * Turns a repository's history into points, through the same ways in as everybody's: the core team's first commits by
 * `laurel.record_event` with a profile, the last events by REST where a server runs, all others by INSERT. Safe to repeat:
 * a commit counts once.
 */
export async function demonstrate(options: DemonstrationOptions): Promise<Demonstration> {
  const { pools, path, mostCommits, server, onProgress } = options;
  const commits = await readGitHistory(path, mostCommits);
  const authors = authorsOf(commits);
  const events = eventsOf(commits, authors);
  const startedAt = performance.now();
  const firstDate = (commits[0]?.authoredAt ?? "").slice(0, 10);
  const { isNew, maxPoints } = await setUpPointsSystem(pools, firstDate);

  let stored = 0;
  const introduced = new Set<EventRow>();
  for (const author of authors.slice(0, coreTeamSize)) {
    const first = events.find(({ userId }) => userId === author.id);
    if (first === undefined) continue;
    if (await introduce(pools, author, first)) stored += 1;
    introduced.add(first);
  }
  const champion = authors[0];
  if (isNew && champion !== undefined) await boostUser(pools.admin, champion.id, firstDate);

  const refused: string[] = [];
  const loader = createEventLoader({
    pool: pools.admin,
    tenant: "",
    onRefused: (row, reason) => refused.push(`${row.idempotencyKey.slice(0, 10)}: ${reason}`),
  });
  const load = async (rows: readonly EventRow[]): Promise<void> => {
    stored += (await loader.load(rows)).stored;
  };
  const remaining = events.filter((event) => !introduced.has(event));
  const last = server === undefined ? [] : remaining.slice(-restEvents);
  const others = remaining.slice(0, remaining.length - last.length);
  for (let start = 0; start < others.length; start += batchSize) {
    await load(others.slice(start, start + batchSize));
    onProgress(Math.min(start + batchSize, others.length), events.length);
  }
  let byRest = 0;
  for (const event of last) {
    if (server !== undefined && (await postEvent(server, event))) byRest += 1;
  }
  // Nothing counts twice; this brings what the server, if it has another database, did not bring here.
  const storedBefore = stored;
  await load(last);
  byRest = Math.max(0, byRest - (stored - storedBefore));

  return {
    commits,
    authors,
    isNewSystem: isNew,
    maxPoints,
    events: { stored, replayed: events.length - stored - refused.length - byRest, byRest, refused },
    seconds: (performance.now() - startedAt) / 1000,
    ...(await readResults(pools)),
  };
}

/** Records an author's first event with a profile; returns whether it is new. */
async function introduce(pools: Pick<Pools, "service">, author: Author, first: EventRow): Promise<boolean> {
  const profile = { name: author.name, tz: author.timeZone, attributes: { team: "core" } };
  return inTransaction(pools.service, async (client) => {
    const found = await client.query<{ is_new: boolean }>(
      "select not (laurel.record_event($1, $2, $3, $4, $5, $6, $7) ->> 'idempotentReplayed')::boolean as is_new",
      [
        first.metricKey,
        author.id,
        first.value,
        JSON.stringify(first.attributes),
        first.idempotencyKey,
        first.occurredAt,
        JSON.stringify(profile),
      ],
    );
    return found.rows[0]?.is_new === true;
  });
}

async function readResults(
  pools: Pick<Pools, "service" | "owner">,
): Promise<Pick<Demonstration, "leaders" | "levels" | "explained" | "brokenInvariants">> {
  const found = await inTransaction(pools.service, async (client) => ({
    leaders: await client.query<Demonstration["leaders"][number]>(
      `select b.user_id as "userId", coalesce(u.name, b.user_id) as name, b.total, b.level
       from laurel.points_balances b join laurel.users u on (u.tenant_id, u.id) = (b.tenant_id, b.user_id)
       where b.system_key = 'xp' order by b.total desc, b.user_id limit 10`,
    ),
    levels: await client.query<Demonstration["levels"][number]>(
      `select l.name, l.points, count(b.user_id) as users
       from laurel.points_levels l
       join laurel.points_systems s on s.id = l.system_id and s.key = 'xp' and s.archived_at is null
       left join laurel.points_balances b on b.system_id = s.id and b.level = l.key
       group by l.id order by l.points`,
    ),
    // The one with most to explain.
    explained: await client.query<{ id: string; explanation: string }>(
      `select a.id, laurel.explain_award(a.id) ->> 'sentence' as explanation
       from (
         select a.id from laurel.points_awards a where a.system_key = 'xp'
         order by jsonb_array_length(coalesce(a.boosts, '[]')) desc, a.rounded_points desc, a.id limit 1) a`,
    ),
  }));
  // Reads everything, whoever it belongs to: the owner's business.
  const broken = await pools.owner.query("select from laurel.verify()");
  return {
    leaders: found.leaders.rows,
    levels: found.levels.rows,
    explained: found.explained.rows[0],
    brokenInvariants: broken.rowCount ?? 0,
  };
}
