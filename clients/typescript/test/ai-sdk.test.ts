import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { describe, test } from 'node:test';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { InsufficientCredits } from '@ai-credits/client';
import { creditsMiddleware, embeddingCreditsMiddleware } from '@ai-credits/client/ai-sdk';
import {
  APICallError, RetryError, embedMany, generateText, isStepCount, jsonSchema, streamText, tool, wrapEmbeddingModel,
  wrapLanguageModel, type LanguageModel,
} from 'ai';
import { MockLanguageModelV4 } from 'ai/test';
import { serve } from './server.ts';
import { Account, CONSUMER, OPERATION } from './stack.ts';
import { type Driver, HELD, MODELS, USED, prompt, wrapperTests } from './wrapper.ts';

type Wrapped = Exclude<LanguageModel, string>;

const openai = createOpenAI({ baseURL: `${MODELS}/v1`, apiKey: 'key' });
const anthropic = createAnthropic({ baseURL: `${MODELS}/v1`, apiKey: 'key' });
const GPT = 'gpt-6-astra';
const CLAUDE = 'claude-sonnet-5-5';

function gated(model: Parameters<typeof wrapLanguageModel>[0]['model'], { workspace }: Account) {
  const middleware = creditsMiddleware({ workspace, operation: OPERATION, consumer: CONSUMER, estimate: () => HELD });
  return wrapLanguageModel({ model, middleware });
}

function driverOf(name: string, model: Parameters<typeof wrapLanguageModel>[0]['model']): Driver {
  return {
    name,
    model: (model as { modelId: string }).modelId,
    reportsInput: false,
    classes: ['cached_input_tokens', 'cache_write_tokens', 'reasoning_tokens'],
    retries: 'with holds',
    async plain(account, text, signal) {
      return (await generateText({ model: gated(model, account), prompt: text, ...(signal ? { abortSignal: signal } : {}) })).text;
    },
    async stream(account, text, show, signal) {
      const left = new AbortController();
      const abortSignal = signal ? AbortSignal.any([signal, left.signal]) : left.signal;
      const { fullStream } = streamText({ model: gated(model, account), prompt: text, abortSignal, maxRetries: 0, onError: () => {} });
      for await (const part of fullStream) {
        if (part.type === 'error') throw part.error;
        if (part.type === 'text-delta' && !show(part.text)) left.abort();
      }
    },
    async tools(account, text) {
      const inputSchema = jsonSchema<{ call: number }>({ type: 'object', properties: { call: { type: 'number' } } });
      const tools = { lookup: tool({ inputSchema, execute: () => 'found' }) };
      return (await generateText({ model: gated(model, account), prompt: text, tools, stopWhen: isStepCount(3) })).text;
    },
    isOf(error, status) {
      const last = RetryError.isInstance(error) ? error.lastError : error;
      return APICallError.isInstance(last) && last.statusCode === status;
    },
  };
}

// The AI SDK waits for seconds between attempts.
describe('AI SDK', { concurrency: true }, () => {
  wrapperTests(driverOf('chat completions', openai.chat(GPT)));
  wrapperTests(driverOf('responses', openai.responses(GPT)));
  wrapperTests(driverOf('messages', anthropic(CLAUDE)));
});

test('calls of tools that the provider runs are counted', async () => {
  const account = await Account.open([GPT, CLAUDE]);
  const text = prompt({ server_tools: { web_search: 2 } });
  const search = { web_search: openai.tools.webSearch() };
  await generateText({ model: gated(openai.responses(GPT), account), prompt: text, tools: search });
  await streamText({ model: gated(openai.responses(GPT), account), prompt: text, tools: search }).consumeStream();
  await account.assertPaid([{ ...USED, tool_calls: 2 }, { ...USED, tool_calls: 2 }]);
});

test('a stream of the model that is cancelled costs what was streamed', async () => {
  const account = await Account.open([GPT]);
  const model = gated(openai.chat(GPT), account) as Wrapped & { doStream: any };
  const content = [{ type: 'text', text: prompt({ stall_after: 4 }) }];
  const { stream } = await model.doStream({ prompt: [{ role: 'user', content }] });
  let shown = 0;
  for await (const part of stream) if (part.type === 'text-delta' && part.delta && ++shown === 4) break;
  await account.assertPaid([{ ...HELD, output_tokens: 6 }]);
});

test('a stream leaves no listener behind, and one that is aborted unread costs nothing', async () => {
  const account = await Account.open([GPT]);
  const model = gated(openai.chat(GPT), account) as Wrapped & { doStream: any };
  const promptOf = (plan: object) => [{ role: 'user', content: [{ type: 'text', text: prompt({ ...plan }) }] }];
  const controller = new AbortController();
  // Each call leaves one of fetch.
  const listeners = async (called: { doStream: any }) => {
    const { signal } = new AbortController();
    for await (const _ of (await called.doStream({ prompt: promptOf({}), abortSignal: signal })).stream) continue;
    return getEventListeners(signal, 'abort').length;
  };
  assert.equal(await listeners(model), await listeners(openai.chat(GPT)));
  await model.doStream({ prompt: promptOf({ stall_after: 4 }), abortSignal: controller.signal });
  controller.abort();
  await account.assertPaid([USED]);
});

test('tools of an MCP server are not counted', async () => {
  const account = await Account.open(['mock']);
  const call = { type: 'tool-call' as const, toolCallId: 'call_1', toolName: 'search', input: '{}', providerExecuted: true };
  const usage = {
    inputTokens: { total: 10, noCache: undefined, cacheRead: undefined, cacheWrite: undefined },
    outputTokens: { total: 20, text: undefined, reasoning: undefined },
  };
  const content = [call, { ...call, toolCallId: 'call_2', dynamic: true }];
  const result = { content, usage, finishReason: { unified: 'stop' as const, raw: 'stop' }, warnings: [] };
  const model = gated(new MockLanguageModelV4({ modelId: 'mock', doGenerate: result }), account);
  await model.doGenerate({ prompt: [] });
  await account.assertPaid([{ ...USED, tool_calls: 1 }]);
});

test('a refusal after the first attempt is the last error of the retries', async (t) => {
  let holds = 0;
  const refusal = { status: 402, json: { code: 'insufficient_credits', prompt: 'Add credits.' } };
  const { baseUrl } = await serve(t, ({ path }) => {
    const isRefused = path.endsWith('/holds') && (holds += 1) > 1;
    return isRefused ? refusal : { status: 200, json: { hold_id: 'hold_1' } };
  });
  const account = (await Account.open([GPT])).at(baseUrl);
  const answer = generateText({ model: gated(openai.chat(GPT), account), prompt: prompt({ fail: { status: 429 } }) });
  await assert.rejects(answer, (error) => RetryError.isInstance(error) && error.lastError instanceof InsufficientCredits);
});

test('embeddings cost their input', async () => {
  const account = await Account.open([GPT]);
  const { workspace } = account;
  const middleware = embeddingCreditsMiddleware({ workspace, operation: OPERATION, consumer: CONSUMER });
  const model = wrapEmbeddingModel({ model: openai.embedding(GPT), middleware });
  await embedMany({ model, values: [prompt({ input: 700 }), 'a'] });
  await account.assertPaid([{ input_tokens: 700 }]);
  const poor = await Account.open([GPT], '0');
  const unpaid = wrapEmbeddingModel({
    model: openai.embedding(GPT),
    middleware: embeddingCreditsMiddleware({ workspace: poor.workspace, operation: OPERATION, consumer: CONSUMER }),
  });
  await assert.rejects(embedMany({ model: unpaid, values: ['a'] }), InsufficientCredits);
  await poor.assertPaid([], '0');
});

test('the hold is an estimate of the request', async () => {
  const account = await Account.open([GPT]);
  const { workspace } = account;
  const middleware = creditsMiddleware({ workspace, operation: OPERATION, consumer: CONSUMER });
  const model = wrapLanguageModel({ model: openai.chat(GPT), middleware });
  const controller = new AbortController();
  const text = prompt({ stall_after: 0 });
  const image = { type: 'file' as const, mediaType: 'image/png', data: new Uint8Array(9_000) };
  const messages = [{ role: 'user' as const, content: [image, { type: 'text' as const, text }] }];
  const params = { model, messages, maxOutputTokens: 123, abortSignal: controller.signal };
  const answer = assert.rejects(generateText(params), /abort/i);
  let held = '0';
  while (held === '0') ({ held } = await workspace.getBalance());
  controller.abort();
  await answer;
  const bytes = ('user' + 'text' + text).length;
  assert.equal(held, await account.priceOf({ input_tokens: 1_000 + Math.ceil(bytes / 3), output_tokens: 123 }));
  await account.assertPaid([]);
});
