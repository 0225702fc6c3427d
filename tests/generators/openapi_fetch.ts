// Makes one call with the types of openapi-typescript, through openapi-fetch.
import createClient from 'openapi-fetch';
import type { components, paths } from './generated/schema';

type Entry = components['schemas']['LedgerEntry'];

async function main(): Promise<void> {
  const baseUrl = process.env['AI_CREDITS_LOCAL']!;
  const headers = { Authorization: `Bearer ${process.env['AI_CREDITS_TOKEN']}` };
  const credits = createClient<paths>({ baseUrl, headers });
  const { data: debit, error } = await credits.POST('/v1/workspaces/{workspace_id}/debits', {
    params: { path: { workspace_id: 'demo' }, header: { 'Idempotency-Key': 'openapi-fetch' } },
    body: {
      operation: 'text.generate',
      units: { input_tokens: 1200, output_tokens: 800 },
      consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' },
    },
  });
  if (error) throw new Error(JSON.stringify(error));
  const { data: ledger } = await credits.GET('/v1/workspaces/{workspace_id}/ledger', {
    params: { path: { workspace_id: 'demo' }, query: { kind: 'debit', limit: 1 } },
  });
  const newest: Entry | undefined = ledger?.entries[0];
  // `kind` tells a debit, which has an operation, from the other entries.
  if (newest?.kind !== 'debit' || newest.operation !== 'text.generate') throw new Error(JSON.stringify(newest));
  console.log(`openapi-fetch: ${debit.debit_id} cost ${debit.credits}`);
}

void main();
