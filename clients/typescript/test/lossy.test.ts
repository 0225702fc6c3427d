// Makes 1,000 AI calls over a wire that loses one request in ten and one response in ten.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Account, CONSUMER, OPERATION, millionths } from './stack.ts';

const CALLS = 1_000;
const WORKERS = 16;
const GRANTED = '100000';

test('each of 1,000 calls is charged once', async () => {
  const url = process.env['AI_CREDITS_LOSSY'];
  assert(url, 'start the test by lossy.js, which sets AI_CREDITS_LOSSY');
  const { workspace } = await Account.open([], GRANTED, url);

  const charged = new Map<number, string>();
  const numbers = Array(CALLS).keys();
  const worker = async () => {
    for (const number of numbers) {
      const order = { operation: OPERATION, consumer: CONSUMER, metadata: { number: String(number) } };
      const units = { input_tokens: number, output_tokens: 1 };
      if (number % 2 === 0) charged.set(number, (await workspace.createDebit({ ...order, units })).credits);
      else {
        const call = await workspace.begin({ ...order, units: { input_tokens: number, output_tokens: 500 } });
        charged.set(number, (await call.finish(units)).captured);
      }
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, worker));

  const entries = new Map<number, string>();
  let sum = 0n;
  for await (const entry of workspace.listLedgerEntries()) {
    sum += millionths(entry.credits);
    if (entry.kind !== 'debit' && entry.kind !== 'hold_settled') continue;
    const metadata = entry.kind === 'debit' ? entry.metadata : entry.line_metadata?.[0]?.metadata;
    const number = Number(metadata?.['number']);
    assert(!entries.has(number), `call ${number} was charged twice`);
    entries.set(number, entry.credits.slice(1));
  }
  assert.equal(charged.size, CALLS);
  assert.deepEqual(entries, charged); // Maps are compared without their order.
  const { available, held } = await workspace.getBalance();
  const spent = [...charged.values()].reduce((total, credits) => total + millionths(credits), 0n);
  assert.deepEqual([millionths(available), held], [millionths(GRANTED) - spent, '0']);
  assert.equal(sum, millionths(available));
});
