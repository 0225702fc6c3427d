export type { CallOrder, Call, FinishOptions } from './call.ts';
export { AICredits, type RequestContent } from './client.ts';
export { AICreditsError, InsufficientCredits, NotGated, Refused, Unavailable, type FieldError } from './errors.ts';
export type { Page, Pages } from './pages.ts';
export type { components, operations } from './schema.ts';
export type { CallOptions, ClientOptions, Outage, ResponseDetails } from './send.ts';
export type * from './types.ts';
export type { ReadOptions, Workspace } from './workspace.ts';
