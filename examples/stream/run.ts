// Streams three answers of a model and checks what they cost: a completed one, an aborted one, and one for which the credits
// don't suffice. Run it with CREDITS_URL and CREDITS_TOKEN, a token for all workspaces:
//
//     cargo local                     # prints both
//     node examples/stream/run.ts     # Node.js 22.18 or newer
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { type Outcome, answer, millionths, send } from './answer.ts';
import { startModel } from './model.ts';

const [INPUT, LENGTH] = [120, 4_000];
const consumer = { kind: 'action', feature: 'assistant', user_id: 'ada' };

// Creates a workspace with some credits, and with the price of a part: as `text.generate` on the rate card, without a base.
async function workspaceWith(credits: string): Promise<string> {
  const workspace = `stream-${randomUUID()}`;
  const path = `/v1/workspaces/${workspace}`;
  await send('PUT', path, { name: 'Stream', plan: 'free', billing_email: 'billing@stream.example' });
  const part = { operation: 'text.generate.part', per_1k_output_tokens: '1.5' };
  await send('PUT', `${path}/pricing`, { operations: [part] });
  await send('POST', `${path}/grants`, { credits, kind: 'prepaid', reason: 'example' }, 'grant');
  return workspace;
}

// Returns the price of a whole answer that is paid in one piece.
async function price(workspace: string, tokens: number): Promise<bigint> {
  const units = { input_tokens: INPUT, output_tokens: tokens };
  const quote = await send('POST', `/v1/workspaces/${workspace}/quotes`, { operation: 'text.generate', units, consumer });
  return millionths(quote.body.credits);
}

const model = await startModel(LENGTH);

// Streams an answer, aborts it after some parts, and checks what was shown, what it cost and what is left.
async function run(granted: string, partsUntilAbort = Infinity): Promise<Outcome & { workspace: string; left: bigint }> {
  const workspace = await workspaceWith(granted);
  const [user, shown]: [AbortController, string[]] = [new AbortController(), []];
  const show = (text: string) => {
    if (shown.push(text) === partsUntilAbort) user.abort();
  };
  const question = { workspace, id: 'answer_1', prompt: 'Tell me a story.', inputTokens: INPUT, maxTokens: LENGTH, model: model.url };
  const outcome = await answer(question, show, user.signal);
  const words = shown.join('').split(' ').filter(Boolean);
  assert.deepEqual(words, Array.from({ length: outcome.tokens }, (_, at) => `word${at + 1}`), 'the tokens were shown in order');
  assert.equal(millionths(outcome.credits), await price(workspace, outcome.tokens), 'what was shown costs its price');
  const { available, held } = (await send('GET', `/v1/workspaces/${workspace}/balance`)).body;
  const left = millionths(available);
  assert.equal(left, millionths(granted) - millionths(outcome.credits), 'the balance pays what was shown');
  assert.ok(left >= 0n && held === '0', 'the balance is not below zero, and nothing is held');
  console.log(`${outcome.end}: ${outcome.tokens} tokens cost ${outcome.credits} credits, ${available} are left`);
  return { ...outcome, workspace, left };
}

try {
  const completed = await run('10');
  assert.deepEqual([completed.end, completed.tokens], ['completed', LENGTH]);
  const aborted = await run('10', 7);
  assert.deepEqual([aborted.end, aborted.tokens], ['aborted', 7 * 200]);
  const cut = await run('2.5');
  assert.deepEqual([cut.end, cut.tokens < LENGTH], ['out of credits', true]);
  const next = (await price(cut.workspace, cut.tokens + 1)) - (await price(cut.workspace, cut.tokens));
  assert.ok(cut.left < next, 'what is left does not pay another token');
} finally {
  model.close();
}
