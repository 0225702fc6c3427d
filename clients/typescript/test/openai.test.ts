import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { NotGated, type Units } from '@ai-credits/client';
import { type OpenAICreditsOptions, withCredits } from '@ai-credits/client/openai';
import OpenAI from 'openai';
import { ResponsesWS } from 'openai/resources/responses/ws';
import { eventStream, serve } from './server.ts';
import { Account, CONSUMER, OPERATION } from './stack.ts';
import { type Driver, HELD, MODELS, USED, attempts, prompt, wrapperTests } from './wrapper.ts';

const MODEL = 'gpt-6-astra';
const TOOL = { name: 'lookup', description: 'Looks up', parameters: { type: 'object', properties: { call: { type: 'number' } } } };
const client = new OpenAI({ baseURL: `${MODELS}/v1`, apiKey: 'key' });

function gated({ workspace }: Account, options: Partial<OpenAICreditsOptions> = { estimate: () => HELD }): OpenAI {
  return withCredits(client, { workspace, operation: OPERATION, consumer: CONSUMER, ...options });
}

const messagesOf = (content: string) => [{ role: 'user' as const, content }];

const chat: Driver = {
  name: 'chat completions',
  model: MODEL,
  reportsInput: false,
  classes: ['cached_input_tokens', 'cache_write_tokens', 'reasoning_tokens'],
  retries: 'within a hold',
  async plain(account, content, signal) {
    const params = { model: MODEL, messages: messagesOf(content) };
    const completion = await gated(account).chat.completions.create(params, { signal });
    return completion.choices[0]?.message.content ?? '';
  },
  async stream(account, content, show, signal) {
    const params = { model: MODEL, messages: messagesOf(content), stream: true } as const;
    for await (const chunk of await gated(account).chat.completions.create(params, { signal })) {
      assert.equal(chunk.choices.length, 1, 'the chunk with the usage is hidden');
      const text = chunk.choices[0]!.delta.content;
      if (text && !show(text)) break;
    }
  },
  async tools(account, content) {
    const lookup = { type: 'function' as const, function: { ...TOOL, function: () => 'found' } };
    const runner = gated(account).chat.completions.runTools({ model: MODEL, messages: messagesOf(content), tools: [lookup] });
    return (await runner.finalContent()) ?? '';
  },
  isOf: (error, status) => error instanceof OpenAI.APIError && error.status === status,
};

const responses: Driver = {
  ...chat,
  name: 'responses',
  async plain(account, input, signal) {
    return (await gated(account).responses.create({ model: MODEL, input }, { signal })).output_text;
  },
  async stream(account, input, show, signal) {
    for await (const event of await gated(account).responses.create({ model: MODEL, input, stream: true }, { signal })) {
      if (event.type === 'response.output_text.delta' && !show(event.delta)) break;
      if (event.type === 'error') throw new Error(event.message);
    }
  },
  async tools(account, content) {
    const tools = [{ type: 'function' as const, ...TOOL, strict: false }];
    const openai = gated(account);
    const first = await openai.responses.create({ model: MODEL, input: messagesOf(content), tools });
    const call = first.output.find((item) => item.type === 'function_call');
    const result = { type: 'function_call_output' as const, call_id: call!.call_id, output: 'found' };
    const input = [...messagesOf(content), { ...call!, type: 'function_call' as const }, result];
    return (await openai.responses.create({ model: MODEL, input, tools })).output_text;
  },
};

wrapperTests(chat);
wrapperTests(responses);

test('the chunk with the usage reaches a caller that asked for it', async () => {
  const account = await Account.open([MODEL]);
  const params = { model: MODEL, messages: messagesOf(prompt()), stream: true, stream_options: { include_usage: true } } as const;
  const chunks = await Array.fromAsync(await gated(account).chat.completions.create(params));
  assert.equal(chunks.at(-1)?.usage?.total_tokens, 30);
  await account.assertPaid([USED]);
});

test('several choices and audio are counted', async () => {
  const account = await Account.open();
  const workspace = account.workspace.id;
  const rates = ['audio_input_tokens', 'audio_output_tokens'].map((unit) => ({ unit, credits: '3', per: 1_000 }));
  const operation = { operation: OPERATION, base: '0.5', per_1k_input_tokens: '0.5', per_1k_output_tokens: '1.5', rates };
  const body = { operations: [operation], models: [{ model: MODEL, multiplier: '1' }] };
  await account.credits.request('PUT', `/v1/workspaces/${workspace}/pricing`, { body });
  const params = { model: MODEL, messages: messagesOf(prompt({ audio_input: 100, audio_output: 40 })), n: 2 };
  await gated(account).chat.completions.create(params);
  await account.assertPaid([{ input_tokens: 10, output_tokens: 40, audio_input_tokens: 100, audio_output_tokens: 80 }]);
});

test('calls of tools that OpenAI runs are counted', async () => {
  const account = await Account.open([MODEL]);
  const input = prompt({ server_tools: { web_search: 2, code_interpreter: 1 } });
  await gated(account).responses.create({ model: MODEL, input });
  for await (const _ of await gated(account).responses.create({ model: MODEL, input, stream: true })) continue;
  await account.assertPaid([{ ...USED, tool_calls: 3 }, { ...USED, tool_calls: 3 }]);
});

test('an aborted stream costs the calls of tools that were made', async () => {
  const account = await Account.open([MODEL]);
  const input = prompt({ server_tools: { web_search: 2 }, stall_after: 1 });
  await responses.stream(account, input, () => false);
  await account.assertPaid([{ ...HELD, output_tokens: 2, tool_calls: 2 }]);
});

test('the helpers of the SDK are gated', async () => {
  const account = await Account.open([MODEL]);
  const { chat: { completions }, responses: created } = gated(account);
  const format = { type: 'json_schema' as const, name: 'answer', schema: { type: 'object' } };
  const params = { model: MODEL, messages: messagesOf(prompt({ text: '{"a":1}' })) };
  const parsed = await completions.parse({ ...params, response_format: { type: 'json_schema', json_schema: format } });
  assert.equal(parsed.choices[0]?.message.content, '{"a":1}');
  assert.equal(await completions.stream(params).finalContent(), '{"a":1}');
  assert.equal((await created.parse({ model: MODEL, input: prompt(), text: { format } }).catch(() => undefined)), undefined);
  assert.match((await created.stream({ model: MODEL, input: prompt() }).finalResponse()).output_text, /word20/);
  await account.assertPaid([USED, USED, USED, USED]);
});

test('the raw response can be read', async () => {
  const account = await Account.open([MODEL]);
  const params = { model: MODEL, messages: messagesOf(prompt()) };
  const { data, response } = await gated(account).chat.completions.create(params).withResponse();
  assert.deepEqual([response.status, data.usage?.total_tokens], [200, 30]);
  const raw = await gated(account).chat.completions.create(params).asResponse();
  assert.equal(((await raw.json()) as { usage: { total_tokens: number } }).usage.total_tokens, 30);
  await account.assertPaid([USED, USED]);
});

test('a raw stream that is cancelled is settled', async () => {
  const account = await Account.open([MODEL]);
  const params = { model: MODEL, messages: messagesOf(prompt({ stall_after: 4 })), stream: true } as const;
  const { body } = await gated(account).chat.completions.create(params).asResponse();
  let text = '';
  for await (const bytes of body!) {
    text += new TextDecoder().decode(bytes);
    if (text.includes('word4')) break;
  }
  await account.assertPaid([{ ...HELD, output_tokens: 6 }]);
});

test('an aborted stream that nobody reads costs nothing', async () => {
  const account = await Account.open([MODEL]);
  const params = { model: MODEL, messages: messagesOf(prompt({ stall_after: 4 })), stream: true } as const;
  (await gated(account).chat.completions.create(params)).controller.abort();
  await account.assertPaid([]);
});

test('an abort while the hold is placed is an abort of the SDK, and releases the hold', async (t) => {
  const controller = new AbortController();
  const { baseUrl, received } = await serve(t, ({ path }) => {
    controller.abort();
    return { status: 200, json: { hold_id: 'hold_1', path } };
  });
  const account = (await Account.open([MODEL])).at(baseUrl);
  const id = randomUUID();
  const params = { model: MODEL, messages: messagesOf(prompt({ id })) };
  const created = gated(account).chat.completions.create(params, { signal: controller.signal });
  await assert.rejects(created, OpenAI.APIUserAbortError);
  await account.credits.settled();
  assert.deepEqual(received.map(({ body }) => body.units), [HELD, undefined]);
  assert.equal(await attempts(id), 0);
});

test('audio counts as no text', async () => {
  const account = await Account.open([MODEL]);
  const text = { type: 'response.output_text.delta', delta: '12345678' };
  const audio = { type: 'response.audio.delta', delta: 'A'.repeat(400) };
  const openai = gated(account).withOptions({ fetch: async () => eventStream([text, audio]) });
  for await (const _ of await openai.responses.create({ model: MODEL, input: 'a', stream: true })) continue;
  await account.assertPaid([{ ...HELD, output_tokens: 2 }]);
});

test('embeddings cost their input', async () => {
  const account = await Account.open([MODEL]);
  const { data } = await gated(account).embeddings.create({ model: MODEL, input: prompt({ input: 700 }) });
  assert.deepEqual([...data[0]!.embedding], [0.25, -0.5, 1]);
  await account.assertPaid([{ input_tokens: 700 }]);
});

test('the hold is an estimate of the request', async () => {
  const cases: [(openai: OpenAI, text: string, signal: AbortSignal) => Promise<unknown>, (text: string) => Units][] = [
    [
      (openai, text, signal) => {
        const image = { type: 'image_url', image_url: { url: `data:image/png;base64,${'A'.repeat(9_000)}` } } as const;
        const content = [image, { type: 'text', text } as const];
        return openai.chat.completions.create({ model: MODEL, messages: [{ role: 'user', content }], n: 2 }, { signal });
      },
      (text) => ({ input_tokens: 1_000 + Math.ceil(('user' + 'text' + text).length / 3), output_tokens: 2 * 4_096 }),
    ],
    [
      (openai, text, signal) => {
        const params = { model: MODEL, messages: messagesOf(text), max_completion_tokens: 123, tools: [] };
        return openai.chat.completions.create(params, { signal });
      },
      (text) => ({ input_tokens: Math.ceil(('user' + text + '[]').length / 3), output_tokens: 123 }),
    ],
    [
      (openai, text, signal) => {
        return openai.responses.create({ model: MODEL, input: text, instructions: 'Ä', max_output_tokens: 50 }, { signal });
      },
      (text) => ({ input_tokens: Math.ceil((text.length + 2) / 3), output_tokens: 50 }),
    ],
  ];
  for (const [call, units] of cases) {
    const account = await Account.open([MODEL]);
    const controller = new AbortController();
    const text = prompt({ stall_after: 0 });
    const answer = assert.rejects(call(gated(account, {}), text, controller.signal), /abort/i);
    let held = '0';
    while (held === '0') ({ held } = await account.workspace.getBalance());
    controller.abort();
    await answer;
    assert.equal(held, await account.priceOf(units(text)));
    await account.assertPaid([]);
  }
});

test('a model may have another name on the rate card', async () => {
  const account = await Account.open();
  const params = { model: 'unknown-on-the-card', messages: messagesOf(prompt()) };
  for (const model of ['standard', (name: string) => (name === params.model ? 'standard' : assert.fail()), () => undefined]) {
    await gated(account, { model, estimate: () => HELD }).chat.completions.create(params);
  }
  await account.assertPaid([USED, USED, USED]);
  await assert.rejects(gated(account).chat.completions.create(params), { name: 'Refused', status: 422 });
});

test('calls that are not gated are refused, and free ones pass', async () => {
  const account = await Account.open([MODEL]);
  const openai = gated(account);
  await assert.rejects(openai.images.generate({ prompt: 'a cat' }), NotGated);
  await assert.rejects(openai.completions.create({ model: MODEL, prompt: 'a' }), NotGated);
  await assert.rejects(openai.audio.speech.create({ model: MODEL, voice: 'alloy', input: 'a' }), NotGated);
  await assert.rejects(openai.batches.create({ completion_window: '24h', endpoint: '/v1/responses', input_file_id: 'a' }), NotGated);
  await assert.rejects(openai.responses.create({ model: MODEL, input: 'a', background: true }), NotGated);
  await assert.rejects(openai.responses.compact({ model: MODEL, input: 'a' }), NotGated);
  assert.throws(() => new ResponsesWS(openai), NotGated);
  // models.js does not know these, but they reach it.
  await assert.rejects(openai.models.list(), OpenAI.NotFoundError);
  await assert.rejects(openai.responses.inputTokens.count({ model: MODEL, input: 'a' }), OpenAI.NotFoundError);
  await account.assertPaid([]);
});

test('copies of the client are gated, and the given client is not', async () => {
  const account = await Account.open([MODEL]);
  const params = { model: MODEL, messages: messagesOf(prompt()) };
  await gated(account).withOptions({ timeout: 60_000 }).chat.completions.create(params);
  await client.chat.completions.create(params);
  await account.assertPaid([USED]);
});

test('a client of an unknown version is refused', () => {
  const unknown = { withOptions: () => ({}) } as unknown as OpenAI;
  assert.throws(() => withCredits(unknown, {} as OpenAICreditsOptions), NotGated);
});

test('a body that stalls is retried with a hold of its own', async () => {
  const account = await Account.open([MODEL]);
  const id = randomUUID();
  const params = { model: MODEL, messages: messagesOf(prompt({ id, stall_after: 0 })) };
  const created = gated(account).chat.completions.create(params, { timeout: 300, maxRetries: 1 });
  await assert.rejects(created, OpenAI.APIConnectionTimeoutError);
  assert.equal(await attempts(id), 2);
  await account.assertPaid([]);
});
