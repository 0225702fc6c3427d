// The refusals of a real stack.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AICredits, Refused } from '@ai-credits/client';
import { Account, CONSUMER, millionths } from './stack.ts';

const OPERATION = 'two.rates';
const ORDER = { operation: OPERATION, consumer: CONSUMER, units: { input_tokens: 1_000, output_tokens: 1_000, reasoning_tokens: 500 } };
const USED = {
  ...{ input_tokens: 500, cached_input_tokens: 300, cache_write_tokens: 150, audio_input_tokens: 50 },
  ...{ output_tokens: 100, reasoning_tokens: 80, audio_output_tokens: 20, tool_calls: 2 },
};

async function withTwoRates(): Promise<Account> {
  const account = await Account.open();
  const operation = { operation: OPERATION, base: '0', per_1k_input_tokens: '1', per_1k_output_tokens: '10' };
  const path = `/v1/workspaces/${account.workspace.id}/pricing`;
  await account.credits.request('PUT', path, { body: { operations: [operation] } });
  return account;
}

test('a call is charged by two rates', async () => {
  const { workspace } = await withTwoRates();
  const call = await workspace.begin(ORDER);
  assert.equal(millionths(call.hold.credits), 16_000_000n);
  assert.equal((await call.finish(USED)).captured, '3');
  const next = await workspace.begin(ORDER);
  assert.equal((await next.finish({ tool_calls: 5 })).captured, '0');
  assert.equal((await workspace.getBalance()).held, '0');
});

test('a unit that nothing counts is refused', async () => {
  const { workspace } = await withTwoRates();
  const refused = workspace.begin({ ...ORDER, units: { images: 1 } });
  await assert.rejects(refused, (error) => error instanceof Refused && error.errors[0]?.field === 'units.images');
});

test('a wrong token is refused at once', async () => {
  const { workspace } = await Account.open();
  const baseUrl = process.env['AI_CREDITS_LOCAL']!;
  const stranger = new AICredits({ baseUrl, apiKey: 'wrong' }).workspace(workspace.id);
  await assert.rejects(stranger.getBalance(), { name: 'Refused', status: 401, code: 'unauthorized' });
});
