import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NotGated } from '@ai-credits/client';
import { type AnthropicCreditsOptions, withCredits } from '@ai-credits/client/anthropic';
import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { eventStream } from './server.ts';
import { Account, CONSUMER, OPERATION } from './stack.ts';
import { type Driver, HELD, MODELS, USED, prompt, wrapperTests } from './wrapper.ts';

const MODEL = 'claude-sonnet-5-5';
const client = new Anthropic({ baseURL: MODELS, apiKey: 'key' });

function gated({ workspace }: Account, options: Partial<AnthropicCreditsOptions> = { estimate: () => HELD }): Anthropic {
  return withCredits(client, { workspace, operation: OPERATION, consumer: CONSUMER, ...options });
}

const paramsOf = (content: string) => ({ model: MODEL, max_tokens: 500, messages: [{ role: 'user' as const, content }] });

function textOf({ content }: { content: { type: string; text?: string }[] }): string {
  return content.map((block) => (block.type === 'text' ? block.text : '')).join('');
}

const messages: Driver = {
  name: 'messages',
  model: MODEL,
  reportsInput: true,
  classes: ['cached_input_tokens', 'cache_write_tokens', 'reasoning_tokens'],
  retries: 'within a hold',
  async plain(account, content, signal) {
    return textOf(await gated(account).messages.create(paramsOf(content), { signal }));
  },
  async stream(account, content, show, signal) {
    for await (const event of await gated(account).messages.create({ ...paramsOf(content), stream: true }, { signal })) {
      if (event.type === 'content_block_delta' && event.delta.type === 'text_delta' && !show(event.delta.text)) break;
    }
  },
  async tools(account, content) {
    const inputSchema = { type: 'object', properties: { call: { type: 'number' } } } as const;
    const lookup = betaTool({ name: 'lookup', description: 'Looks up', inputSchema, run: () => 'found' });
    return textOf(await gated(account).beta.messages.toolRunner({ ...paramsOf(content), tools: [lookup] }));
  },
  isOf: (error, status) => error instanceof Anthropic.APIError && error.status === status,
};

wrapperTests(messages);

const START = {
  type: 'message_start',
  message: {
    ...{ id: 'msg_1', type: 'message', role: 'assistant', content: [] },
    usage: { input_tokens: 10, output_tokens: 1, cache_read_input_tokens: 40, cache_creation_input_tokens: 0 },
  },
};

test('an error after the start of a message costs nothing', async () => {
  const account = await Account.open([MODEL]);
  const failure = { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } };
  const fetch = async () => eventStream([START, failure]);
  const stream = gated(account).withOptions({ fetch }).messages.stream(paramsOf('a'));
  await assert.rejects(stream.finalMessage(), Anthropic.APIError);
  await account.assertPaid([]);
});

test('counts that are null at the end stay as at the start', async () => {
  const account = await Account.open([MODEL]);
  const counts = { input_tokens: null, cache_read_input_tokens: null, cache_creation_input_tokens: null, output_tokens: 20 };
  const end = { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: counts };
  const fetch = async () => eventStream([START, end, { type: 'message_stop' }]);
  await gated(account).withOptions({ fetch }).messages.stream(paramsOf('a')).finalMessage();
  await account.assertPaid([{ input_tokens: 10, cached_input_tokens: 40, output_tokens: 20 }]);
});

test('an aborted stream that nobody reads costs nothing', async () => {
  const account = await Account.open([MODEL]);
  const stream = await gated(account).messages.create({ ...paramsOf(prompt({ stall_after: 4 })), stream: true });
  stream.controller.abort();
  await account.assertPaid([]);
});

test('a message that is left before any text costs its input', async () => {
  const account = await Account.open([MODEL]);
  const params = { ...paramsOf(prompt({ cached: 40, reasoning: 1, stall_after: 1 })), stream: true } as const;
  for await (const event of await gated(account).messages.create(params)) if (event.type === 'message_start') break;
  await account.credits.settled();
  const [entry] = (await account.workspace.listLedgerEntries({ kind: 'hold_settled' }).page()).entries;
  assert(entry?.kind === 'hold_settled');
  // The network decides whether "think1 ", 7 bytes, was read before the consumer left.
  const prices = [0, 2].map(async (output_tokens) => {
    return `-${await account.priceOf({ input_tokens: 10, cached_input_tokens: 40, output_tokens })}`;
  });
  assert((await Promise.all(prices)).includes(entry.credits), entry.credits);
});

test('calls of tools that Anthropic runs are counted', async () => {
  const account = await Account.open([MODEL]);
  const params = paramsOf(prompt({ server_tools: { web_search: 2, web_fetch: 1 } }));
  await gated(account).messages.create(params);
  for await (const _ of await gated(account).messages.create({ ...params, stream: true })) continue;
  await account.assertPaid([{ ...USED, tool_calls: 3 }, { ...USED, tool_calls: 3 }]);
});

test('the helpers of the SDK and its beta are gated', async () => {
  const account = await Account.open([MODEL]);
  const anthropic = gated(account);
  assert.match(await anthropic.messages.stream(paramsOf(prompt())).finalText(), /word20/);
  assert.match(await anthropic.beta.messages.stream(paramsOf(prompt())).finalText(), /word20/);
  assert.match(textOf(await anthropic.beta.messages.create(paramsOf(prompt()))), /word20/);
  assert.match(textOf(await anthropic.messages.parse(paramsOf(prompt()))), /word20/);
  await account.assertPaid([USED, USED, USED, USED]);
});

test('an aborted helper costs what was streamed', async () => {
  const account = await Account.open([MODEL]);
  const stream = gated(account).messages.stream(paramsOf(prompt({ stall_after: 4 })));
  let shown = 0;
  stream.on('text', () => ++shown === 4 && stream.abort());
  await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
  await account.assertPaid([{ ...USED, output_tokens: 6 }]);
});

test('the hold is an estimate of the request', async () => {
  const account = await Account.open([MODEL]);
  const controller = new AbortController();
  const text = prompt({ stall_after: 0 });
  const image = { type: 'image' as const, source: { type: 'base64' as const, media_type: 'image/png' as const, data: 'A'.repeat(9_000) } };
  const document = { type: 'document' as const, source: { type: 'text' as const, media_type: 'text/plain' as const, data: 'Ä'.repeat(30) } };
  const content = [image, document, { type: 'text' as const, text }];
  const params = { model: MODEL, max_tokens: 123, system: 'Be short.', messages: [{ role: 'user' as const, content }] };
  const answer = assert.rejects(gated(account, {}).messages.create(params, { signal: controller.signal }), /abort/i);
  let held = '0';
  while (held === '0') ({ held } = await account.workspace.getBalance());
  controller.abort();
  await answer;
  const bytes = Buffer.byteLength(['Be short.', 'user', 'document', 'text', 'text/plain', 'Ä'.repeat(30), 'text', text].join(''));
  assert.equal(held, await account.priceOf({ input_tokens: 1_000 + Math.ceil(bytes / 3), output_tokens: 123 }));
  await account.assertPaid([]);
});

test('calls that are not gated are refused, and free ones pass', async () => {
  const account = await Account.open([MODEL]);
  const anthropic = gated(account);
  await assert.rejects(anthropic.messages.batches.create({ requests: [] }), NotGated);
  await assert.rejects(anthropic.post('/v1/complete', { body: {} }), NotGated);
  // models.js does not know these, but they reach it.
  await assert.rejects(anthropic.models.retrieve('a'), Anthropic.NotFoundError);
  const { model, messages: sent } = paramsOf('a');
  await assert.rejects(anthropic.messages.countTokens({ model, messages: sent }), Anthropic.NotFoundError);
  await account.assertPaid([]);
});

test('copies of the client are gated, and the given client is not', async () => {
  const account = await Account.open([MODEL]);
  await gated(account).withOptions({ timeout: 60_000 }).messages.create(paramsOf(prompt()));
  await client.messages.create(paramsOf(prompt()));
  await account.assertPaid([USED]);
});
