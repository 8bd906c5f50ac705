/** Somebody who does the same work in another way: one run returns events per second. */
export interface Contestant {
  readonly name: string;
  readonly run: () => Promise<number>;
}

/** What Laurel has to reach: a share of a rival's rate, a cost of at most so many times a rival's, or a rate of its own. */
export type Goal =
  | { readonly kind: "share"; readonly of: string; readonly least: number }
  | { readonly kind: "cost"; readonly of: string; readonly most: number }
  | { readonly kind: "rate"; readonly least: number };

/** A line of the report: Laurel against its rivals at one kind of work. */
export interface Contest {
  readonly title: string;
  readonly laurel: Contestant;
  readonly rivals: readonly Contestant[];
  readonly goals: readonly Goal[];
}

/** Rates of several rounds, events per second. */
export interface Rates {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** How a contest ended. */
export interface Outcome {
  readonly title: string;
  readonly laurel: Rates;
  /** `share` is Laurel's rate divided by the rival's: the median over rounds. */
  readonly rivals: readonly { readonly name: string; readonly rates: Rates; readonly share: number }[];
  readonly goals: readonly (Goal & { readonly reached: number; readonly isReached: boolean })[];
}

/** Told after each run. */
export type Progress = (message: string) => void;

/**
 * Runs Laurel and its rivals in turn, round by round, so that whatever else the machine does meets all of them. Shares
 * are taken within a round, where conditions are most alike.
 */
export async function holdContest(contest: Contest, rounds: number, progress: Progress): Promise<Outcome> {
  const contestants = [contest.laurel, ...contest.rivals];
  const rates = new Map<string, number[]>(contestants.map(({ name }) => [name, []]));
  for (let round = 1; round <= rounds; round += 1) {
    for (const { name, run } of contestants) {
      progress(`${contest.title} · round ${round} of ${rounds} · ${name}`);
      rates.get(name)?.push(await run());
    }
  }
  const ratesOf = (name: string): readonly number[] => rates.get(name) ?? [];
  const laurelRates = ratesOf(contest.laurel.name);
  const shareOf = (name: string): number =>
    median(ratesOf(name).map((rate, round) => (laurelRates[round] ?? Number.NaN) / rate));
  return {
    title: contest.title,
    laurel: summarise(laurelRates),
    rivals: contest.rivals.map(({ name }) => ({ name, rates: summarise(ratesOf(name)), share: shareOf(name) })),
    goals: contest.goals.map((goal) => {
      if (goal.kind === "cost") {
        const reached = 1 / shareOf(goal.of);
        return { ...goal, reached, isReached: reached <= goal.most };
      }
      const reached = goal.kind === "rate" ? median(laurelRates) : shareOf(goal.of);
      return { ...goal, reached, isReached: reached >= goal.least };
    }),
  };
}

/** The middle value, or the mean of the two in the middle. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low, high] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return low === undefined || high === undefined ? Number.NaN : (low + high) / 2;
}

function summarise(rates: readonly number[]): Rates {
  return { median: median(rates), least: Math.min(...rates), most: Math.max(...rates) };
}
