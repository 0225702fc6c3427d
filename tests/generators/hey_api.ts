// Makes one call with the client of @hey-api/openapi-ts.
import { client } from './generated/hey/client.gen';
import { createDebit, createHold, listLedgerEntries, settleHold } from './generated/hey/sdk.gen';

async function main(): Promise<void> {
  client.setConfig({ baseUrl: process.env['AI_CREDITS_LOCAL']!, auth: () => process.env['AI_CREDITS_TOKEN'] });
  const [path, throwOnError] = [{ workspace_id: 'demo' }, true] as const;
  const call = { operation: 'text.generate', consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' } } as const;
  const { data: debit } = await createDebit({
    path,
    headers: { 'Idempotency-Key': 'hey-api' },
    body: { ...call, credits: '1.5' },
    throwOnError,
  });
  const { data: hold } = await createHold({
    path,
    headers: { 'Idempotency-Key': 'hey-api/hold' },
    body: { ...call, units: { input_tokens: 100, output_tokens: 1_000 }, ttl_seconds: 60 },
    throwOnError,
  });
  await settleHold({
    path: { ...path, hold_id: hold.hold_id },
    headers: { 'Idempotency-Key': 'hey-api/settle' },
    body: { units: { input_tokens: 100, output_tokens: 10 }, overrun: 'take_available' },
    throwOnError,
  });
  const { data: ledger } = await listLedgerEntries({ path, query: { limit: 2 }, throwOnError });
  const kinds = ledger.entries.map((entry) => (entry.kind === 'hold_settled' ? entry.hold_ids[0] : entry.kind));
  if (String(kinds) !== String([hold.hold_id, 'debit'])) throw new Error(String(kinds));
  console.log(`hey-api: ${debit.debit_id} cost ${debit.credits}`);
}

void main();
