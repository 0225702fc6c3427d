import { type CallOrder, Call, begin, gate } from './call.ts';
import type { Folds } from './folds.ts';
import { Pages } from './pages.ts';
import { type CallOptions, type Sender, path } from './send.ts';
import type * as T from './types.ts';

/** The options of a call that only reads. */
export type ReadOptions = Omit<CallOptions, 'idempotencyKey'>;

/** A workspace: its credits, and the calls that spend them. */
export class Workspace {
  readonly id: string;
  readonly #sender: Sender;
  readonly #settlements: Set<Promise<unknown>>;
  /** @internal */
  readonly folds: Folds;

  /** @internal */
  constructor(id: string, sender: Sender, folds: Folds, settlements: Set<Promise<unknown>>) {
    this.id = id;
    this.#sender = sender;
    this.folds = folds;
    this.#settlements = settlements;
  }

  /** Holds the credits of an AI call that is about to be made. */
  begin(order: CallOrder, options: CallOptions = {}): Promise<Call> {
    return begin(this, order, options);
  }

  /**
   * Runs `work` with a call, and settles the call on every exit: charges the usage that `call.use` recorded last, or
   * releases all credits if it recorded none.
   */
  async gate<R>(order: CallOrder, work: (call: Call) => R | PromiseLike<R>, options: CallOptions = {}): Promise<R> {
    return gate(await this.begin(order, options), work);
  }

  /** Charges an AI call whose price is known before it is made. */
  createDebit(order: T.DebitOrder, options?: CallOptions): Promise<T.Debit> {
    return this.#post(this.#path`/debits`, order, options);
  }

  /** Charges up to 500 AI calls. */
  createDebitBatch(order: T.BatchOrder, options?: CallOptions): Promise<T.Batch> {
    return this.#post(this.#path`/debits/batch`, order, options);
  }

  /** Refunds a debit, a line of a batch or a settled hold, or a part of it. */
  refundDebit(debitId: string, order: T.DebitRefundOrder, options?: CallOptions): Promise<T.DebitRefund> {
    return this.#post(this.#path`/debits/${debitId}/refund`, order, options);
  }

  /** Sets credits aside for AI calls. */
  createHold(order: T.HoldOrder, options?: CallOptions): Promise<T.Hold> {
    return this.#post(this.#path`/holds`, order, options);
  }

  /** Places several equal holds. */
  createHolds(order: T.HoldsOrder, options?: CallOptions): Promise<T.Holds> {
    return this.#post(this.#path`/holds/batch`, order, options);
  }

  getHold(holdId: string, options?: ReadOptions): Promise<T.Hold> {
    return this.#get(this.#path`/holds/${holdId}`, {}, options);
  }

  /** Pays an AI call from a hold. */
  createCapture(holdId: string, order: T.CaptureOrder, options?: CallOptions): Promise<T.Capture> {
    return this.#post(this.#path`/holds/${holdId}/captures`, order, options);
  }

  /** Pays a last AI call from a hold, if the order has one, and releases the rest. */
  settleHold(holdId: string, order: T.SettleOrder = {}, options?: CallOptions): Promise<T.Hold> {
    return this.#post(this.#path`/holds/${holdId}/settle`, order, options);
  }

  /** Releases the remaining credits of several holds. */
  settleHolds(order: T.SettleHoldsOrder, options?: CallOptions): Promise<T.Holds> {
    return this.#post(this.#path`/holds/batch/settle`, order, options);
  }

  /** Returns the price of an AI call, and whether the balance covers it. */
  createQuote(order: T.DebitOrder, options?: CallOptions): Promise<T.Quote> {
    return this.#post(this.#path`/quotes`, order, options);
  }

  getBalance(options?: ReadOptions): Promise<T.Balance> {
    return this.#get(this.#path`/balance`, {}, options);
  }

  /** Lists all changes of the balance, the newest first. */
  listLedgerEntries(query: T.LedgerQuery = {}, options?: ReadOptions): Pages<T.Ledger, T.LedgerEntry> {
    const fetchPage = (cursor = query.cursor) => this.#get<T.Ledger>(this.#path`/ledger`, { ...query, cursor }, options);
    return new Pages(fetchPage, ({ entries }) => entries);
  }

  /** Returns the usage of a month by workflow, feature or person. */
  getUsage(query: T.UsageQuery = {}, options?: ReadOptions): Promise<T.Usage> {
    return this.#get(this.#path`/usage`, query, options);
  }

  /** Returns the credits spent in each of the last months. */
  getUsageHistory(query: T.UsageHistoryQuery = {}, options?: ReadOptions): Promise<T.History> {
    return this.#get(this.#path`/usage/history`, query, options);
  }

  /** Starts the purchase of a pack. */
  createTopUp(order: T.TopUpOrder, options?: CallOptions): Promise<T.TopUp> {
    return this.#post(this.#path`/top-ups`, order, options);
  }

  getTopUp(topUpId: string, options?: ReadOptions): Promise<T.TopUpStatus> {
    return this.#get(this.#path`/top-ups/${topUpId}`, {}, options);
  }

  /** Starts a run of a workflow. */
  createRun(order: T.RunOrder, options?: CallOptions): Promise<T.StartedRun> {
    return this.#post(this.#path`/runs`, order, options);
  }

  /** Ends a run. */
  completeRun(runId: string, options?: CallOptions): Promise<T.Run> {
    return this.#post(this.#path`/runs/${runId}/complete`, {}, options);
  }

  getRun(runId: string, options?: ReadOptions): Promise<T.Run> {
    return this.#get(this.#path`/runs/${runId}`, {}, options);
  }

  /** Lists the runs, the newest first. */
  listRuns(query: T.RunsQuery = {}, options?: ReadOptions): Pages<T.Runs, T.Run> {
    const fetchPage = (cursor = query.cursor) => this.#get<T.Runs>(this.#path`/runs`, { ...query, cursor }, options);
    return new Pages(fetchPage, ({ runs }) => runs);
  }

  /** Remembers a settlement for `settled` of the client. @internal */
  settling<R>(settlement: Promise<R>): Promise<R> {
    const remembered = settlement.finally(() => this.#settlements.delete(remembered));
    this.#settlements.add(remembered);
    remembered.catch(() => {});
    return remembered;
  }

  #path(strings: TemplateStringsArray, ...ids: string[]): string {
    return path`/v1/workspaces/${this.id}` + path(strings, ...ids);
  }

  #get<R>(path: string, query: object, options?: ReadOptions): Promise<R> {
    return this.#sender.send({ method: 'GET', path, query }, options) as Promise<R>;
  }

  #post<R>(path: string, body: object, options?: CallOptions): Promise<R> {
    return this.#sender.send({ method: 'POST', path, body }, options) as Promise<R>;
  }
}
