// Streams three answers of a model and checks what they cost: a completed one, an aborted one, and one for which the credits
// don't suffice. `npm run stream` starts it (docs/calls.md).
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { AICredits } from '@ai-credits/client';
import OpenAI from 'openai';
import { type Outcome, answer, millionths } from './answer.ts';

const [INPUT, LENGTH] = [120, 4_000];
const consumer = { kind: 'action', feature: 'assistant', user_id: 'ada' } as const;
const credits = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });
const model = new OpenAI({ baseURL: `${process.env.AI_CREDITS_MODELS}/v1`, apiKey: 'none' });

// Creates a workspace with some credits, and with the price of a part: as `text.generate` on the rate card, without a base.
async function workspaceWith(granted: string): Promise<string> {
  const workspace = `stream-${randomUUID()}`;
  await credits.putWorkspace(workspace, { name: 'Stream', plan: 'free', billing_email: 'billing@stream.example' });
  const part = { operation: 'text.generate.part', per_1k_output_tokens: '1.5' };
  await credits.request('PUT', `/v1/workspaces/${workspace}/pricing`, { body: { operations: [part] } });
  const grant = { credits: granted, kind: 'prepaid', reason: 'example' };
  await credits.request('POST', `/v1/workspaces/${workspace}/grants`, { body: grant });
  return workspace;
}

// Returns the price of a whole answer that is paid in one piece.
async function price(workspace: string, tokens: number): Promise<bigint> {
  const units = { input_tokens: INPUT, output_tokens: tokens };
  const quote = await credits.workspace(workspace).createQuote({ operation: 'text.generate', units, consumer });
  return millionths(quote.credits);
}

// Streams an answer, aborts it after some parts, and checks what was shown, what it cost and what is left.
async function run(granted: string, partsUntilAbort = Infinity): Promise<Outcome & { workspace: string; left: bigint }> {
  const workspace = await workspaceWith(granted);
  const [user, shown]: [AbortController, string[]] = [new AbortController(), []];
  const show = (text: string) => {
    if (shown.push(text) === partsUntilAbort) user.abort();
  };
  // The model of clients/conformance reads the length of its answer from the prompt.
  const prompt = JSON.stringify({ output: LENGTH });
  const question = { workspace, id: 'answer_1', prompt, inputTokens: INPUT, maxTokens: LENGTH };
  const outcome = await answer(credits, model, question, show, user.signal);
  const words = shown.join('').split(' ').filter(Boolean);
  assert.deepEqual(words, Array.from({ length: outcome.tokens }, (_, at) => `word${at + 1}`), 'the tokens were shown in order');
  assert.equal(millionths(outcome.credits), await price(workspace, outcome.tokens), 'what was shown costs its price');
  const { available, held } = await credits.workspace(workspace).getBalance();
  const left = millionths(available);
  assert.equal(left, millionths(granted) - millionths(outcome.credits), 'the balance pays what was shown');
  assert.ok(left >= 0n && held === '0', 'the balance is not below zero, and nothing is held');
  console.log(`${outcome.end}: ${outcome.tokens} tokens cost ${outcome.credits} credits, ${available} are left`);
  return { ...outcome, workspace, left };
}

const completed = await run('10');
assert.deepEqual([completed.end, completed.tokens], ['completed', LENGTH]);
const aborted = await run('10', 7);
assert.deepEqual([aborted.end, aborted.tokens], ['aborted', 7 * 200]);
const cut = await run('2.5');
assert.deepEqual([cut.end, cut.tokens < LENGTH], ['out of credits', true]);
const next = (await price(cut.workspace, cut.tokens + 1)) - (await price(cut.workspace, cut.tokens));
assert.ok(cut.left < next, 'what is left does not pay another token');
