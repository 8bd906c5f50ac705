/** A thing as a form was opened on it, or has met it since. */
export interface Seen<V> {
  /** When it was last changed, as the server says; undefined for what does not exist yet. */
  readonly version: string | undefined;
  readonly initial: V;
}

/** What comes of somebody's typing when somebody else has saved the same thing. */
export interface Merged<V> {
  readonly values: V;
  /** What was changed on both sides, differently: as the others have it. */
  readonly theirs: Partial<V>;
  /** Whether others changed anything that is not here already. */
  readonly isNews: boolean;
}

/** Whether two values of a form say the same. */
export const isSame = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

/** Takes over what others changed where `mine` is as it was `before`; what was typed here stays. */
export function mergeValues<V extends object>(before: V, mine: V, now: V): Merged<V> {
  const values = { ...mine };
  const theirs: Partial<V> = {};
  let isNews = false;
  for (const name of Object.keys(now) as (keyof V)[]) {
    if (isSame(before[name], now[name]) || isSame(mine[name], now[name])) continue;
    isNews = true;
    if (isSame(mine[name], before[name])) values[name] = now[name];
    else theirs[name] = now[name];
  }
  return { values, theirs, isNews };
}

/** Those of a form's values that differ from what it was opened on. */
export const changedValues = <V extends object>(initial: V, values: V): Partial<V> =>
  Object.fromEntries(Object.entries(values).filter(([name, value]) => !isSame(value, initial[name as keyof V]))) as Partial<V>;
