/// <reference lib="esnext.disposable" preserve="true" />
import { orAborted } from './retry.ts';
import type { CallOptions } from './send.ts';
import type { Consumer, Hold, HoldOrder, Overrun, SettleOrder, Units } from './types.ts';
import type { Workspace } from './workspace.ts';

// The limits of a ledger entry's metadata.
const MAX_METADATA_PAIRS = 10;
const MAX_METADATA_BYTES = 512;

/** An AI call that is about to be made, with an upper bound of what it uses. */
export interface CallOrder {
  /** An operation of the rate card. */
  operation: string;
  /** A model of the rate card, by its name or an alias. */
  model?: string | undefined;
  /** The most that the call may use. */
  units: Units;
  consumer: Consumer;
  metadata?: Record<string, string> | undefined;
  /** The time until the hold expires, in seconds; 900 by default. */
  ttl_seconds?: number | undefined;
  /** The rule for a call that uses more; `take_available` by default, which charges as much as the balance has. */
  overrun?: Overrun | undefined;
}

/** The options of a settlement. */
export interface FinishOptions extends Omit<CallOptions, 'idempotencyKey' | 'signal'> {
  /** The model that answered, if it is another one. */
  model?: string | undefined;
  /** Whether the counts are estimated. The ledger entry's metadata then has `"usage": "estimated"`. */
  estimated?: boolean | undefined;
}

/** An AI call with a hold. `finish` or `cancel` settles it once; otherwise the hold expires. */
export class Call {
  readonly hold: Hold;
  readonly #workspace: Workspace;
  readonly #order: CallOrder;
  readonly #key: string;
  #used: { units: Units; options: FinishOptions } | undefined;
  #settlement: Promise<Hold> | undefined;

  /** @internal */
  constructor(workspace: Workspace, order: CallOrder, key: string, hold: Hold) {
    this.#workspace = workspace;
    this.#order = order;
    this.#key = key;
    this.hold = hold;
  }

  get holdId(): string {
    return this.hold.hold_id;
  }

  /** Records the usage so far, in place of the usage recorded before. */
  use(units: Units, options: Pick<FinishOptions, 'model' | 'estimated'> = {}): void {
    this.#used = { units, options };
  }

  /** Charges the usage of the call and releases the rest. A second settlement sends nothing and returns the first result. */
  finish(units: Units, options: FinishOptions = {}): Promise<Hold> {
    return this.#settle(() => this.#finish(units, options));
  }

  /** Releases all credits of the call. A second settlement sends nothing and returns the first result. */
  cancel(options: Omit<FinishOptions, 'model' | 'estimated'> = {}): Promise<Hold> {
    return this.#settle(() => this.#settleHold({}, options));
  }

  /** Charges the usage that `use` has recorded, or releases all credits if it has recorded none. */
  async [Symbol.asyncDispose](): Promise<void> {
    await (this.#used ? this.finish(this.#used.units, this.#used.options) : this.cancel());
  }

  #settle(send: () => Promise<Hold>): Promise<Hold> {
    this.#settlement ??= this.#workspace.settling(send());
    return this.#settlement;
  }

  #settleHold(order: SettleOrder, options: CallOptions): Promise<Hold> {
    return this.#workspace.settleHold(this.holdId, order, { ...options, idempotencyKey: `${this.#key}/settle` });
  }

  #finish(units: Units, { model = this.#order.model, estimated, ...options }: FinishOptions): Promise<Hold> {
    const { operation, overrun = 'take_available', metadata } = this.#order;
    const [counted = 'input_tokens'] = Object.keys(this.#order.units);
    // A call that used nothing still costs the operation's base, so one count is sent, even if it is zero.
    const atLeastOne = { ...units, [counted]: units[counted] ?? 0 };
    return this.#workspace.folds.send(operation, model, atLeastOne, (folded) => {
      const order = { units: folded, model, overrun, metadata: estimated ? markedEstimated(metadata) : undefined };
      return this.#settleHold(order as SettleOrder, options);
    });
  }
}

/** Places the hold of a call. */
export async function begin(workspace: Workspace, order: CallOrder, options: CallOptions): Promise<Call> {
  const { idempotencyKey = crypto.randomUUID(), signal, ...rest } = options;
  const { overrun: _, units, ttl_seconds = 900, ...purpose } = order;
  signal?.throwIfAborted();
  const hold = workspace.folds.send(order.operation, order.model, units, (folded) => {
    return workspace.createHold({ ...purpose, units: folded, ttl_seconds } as HoldOrder, { ...rest, idempotencyKey });
  });
  const call = hold.then((placed) => new Call(workspace, order, idempotencyKey, placed));
  try {
    return await orAborted(call, signal);
  } catch (error) {
    // An abort must not leave a hold behind whose response was on its way.
    if (signal?.aborted) void workspace.settling(call.then((unused) => unused.cancel()));
    throw error;
  }
}

/** Runs `work` with a call, and settles the call on every exit. */
export async function gate<T>(call: Call, work: (call: Call) => T | PromiseLike<T>): Promise<T> {
  let result: T;
  try {
    result = await work(call);
  } catch (error) {
    await call[Symbol.asyncDispose]().catch((settlement: unknown) => attach(error, settlement));
    throw error;
  }
  await call[Symbol.asyncDispose]();
  return result;
}

/** Attaches the error of a settlement to the error that is thrown, as `suppressed`. */
export function attach(error: unknown, suppressed: unknown): void {
  const attachable = typeof error === 'object' && error !== null && Object.isExtensible(error);
  if (attachable && error !== suppressed) Object.assign(error, { suppressed });
}

function markedEstimated(metadata: Record<string, string> = {}): Record<string, string> {
  const marked = { ...metadata, usage: 'estimated' };
  const bytes = new TextEncoder().encode(Object.entries(marked).flat().join('')).length;
  // A settlement whose metadata is refused would charge nothing.
  const fits = Object.keys(marked).length <= MAX_METADATA_PAIRS && bytes <= MAX_METADATA_BYTES;
  return fits ? marked : metadata;
}
