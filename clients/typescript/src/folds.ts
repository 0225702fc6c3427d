import { Refused } from './errors.ts';
import type { Units } from './types.ts';

// A unit that a rate card may leave out, and the unit that counts it then. Null: it is not counted.
const PARENTS: ReadonlyMap<string, string | null> = new Map([
  ['reasoning_tokens', 'output_tokens'],
  ['audio_output_tokens', 'output_tokens'],
  ['cached_input_tokens', 'input_tokens'],
  ['cache_write_tokens', 'input_tokens'],
  ['audio_input_tokens', 'input_tokens'],
  ['tool_calls', null],
]);

/**
 * The units that the rate card does not price, by operation and model.
 *
 * A rate card with two rates must not give away the calls that also read from a cache or reason. So the counts of a unit
 * without a rate are added to its parent's.
 */
export class Folds {
  readonly #unpriced = new Map<string, Set<string>>();

  /** Sends units in the classes that are priced. A refusal names those that are not, and has written nothing. */
  async send<T>(operation: string, model: string | undefined, units: Units, send: (units: Units) => Promise<T>): Promise<T> {
    const name = JSON.stringify([operation, model]);
    for (;;) {
      const folded = fold(units, this.#unpriced.get(name) ?? new Set());
      try {
        return await send(folded);
      } catch (error) {
        const found = unpricedOf(error, folded);
        if (found.length === 0) throw error;
        this.#unpriced.set(name, new Set([...(this.#unpriced.get(name) ?? []), ...found]));
      }
    }
  }
}

/** Returns the counts other than zero in the classes that are priced, or one count of zero. */
function fold(units: Units, unpriced: ReadonlySet<string>): Units {
  const folded: Units = {};
  for (const [unit, count] of Object.entries(units)) {
    const priced = unpriced.has(unit) ? PARENTS.get(unit) : unit;
    if (priced != null) folded[priced] = (folded[priced] ?? 0) + count;
  }
  const counted = Object.entries(folded).filter(([, count]) => count !== 0);
  return Object.fromEntries(counted.length > 0 ? counted : Object.entries(folded).slice(0, 1));
}

/** Returns the units of a refused order that can be counted as their parents. */
function unpricedOf(error: unknown, sent: Units): string[] {
  if (!(error instanceof Refused) || error.status !== 422) return [];
  const named = error.errors.filter(({ field }) => field.startsWith('units.')).map(({ field }) => field.slice(6));
  return named.filter((unit) => PARENTS.has(unit) && unit in sent);
}
