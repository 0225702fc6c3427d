import type { components, operations } from './schema.ts';

export type Schemas = components['schemas'];

type Query<Operation extends keyof operations> = NonNullable<operations[Operation]['parameters']['query']>;

export type Balance = Schemas['Balance'];
export type Batch = Schemas['Batch'];
export type BatchOrder = Schemas['BatchOrder'];
export type Capture = Schemas['Capture'];
export type CaptureOrder = Schemas['CaptureOrder'];
export type Catalogue = Schemas['Catalogue'];
/** The action, workflow step or bulk job that spends the credits. */
export type Consumer = Schemas['ConsumerAsked'];
export type Debit = Schemas['Debit'];
export type DebitOrder = Schemas['DebitOrder'];
export type DebitRefund = Schemas['DebitRefund'];
export type DebitRefundOrder = Schemas['DebitRefundOrder'];
export type History = Schemas['History'];
export type Hold = Schemas['Hold'];
export type HoldOrder = Schemas['HoldOrder'];
export type Holds = Schemas['Holds'];
export type HoldsOrder = Schemas['HoldsOrder'];
export type Ledger = Schemas['Ledger'];
export type LedgerEntry = Schemas['LedgerEntry'];
export type LedgerQuery = Query<'listLedgerEntries'>;
export type Overrun = NonNullable<Schemas['SettleOrder']['overrun']>;
export type Quote = Schemas['Quote'];
export type Run = Schemas['Run'];
export type RunOrder = Schemas['RunOrder'];
export type Runs = Schemas['Runs'];
export type RunsQuery = Query<'listRuns'>;
export type SettleHoldsOrder = Schemas['SettleHoldsOrder'];
export type SettleOrder = Schemas['SettleOrder'];
export type StartedRun = Schemas['StartedRun'];
export type TopUp = Schemas['TopUp'];
export type TopUpOrder = Schemas['TopUpOrder'];
export type TopUpStatus = Schemas['TopUpStatus'];
export type Usage = Schemas['Usage'];
export type UsageQuery = Query<'getUsage'>;
export type UsageHistoryQuery = Query<'getUsageHistory'>;
/** The name, plan and billing address of a workspace. */
export type Profile = Schemas['Profile'];
export type WorkspaceDetails = Schemas['Workspace'];

/** The usage of an AI call: counts by unit. Each token counts in one unit only. */
export type Units = Record<string, number>;
