// The usage of each provider, in exclusive classes. The payloads have the types of the installed SDKs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { languageModelUnits, type LanguageModelUsage } from '@ai-credits/client/ai-sdk';
import { messageUnits } from '@ai-credits/client/anthropic';
import { chatCompletionUnits, embeddingUnits, responseUnits } from '@ai-credits/client/openai';
import type { BetaUsage } from '@anthropic-ai/sdk/resources/beta/messages/messages';
import type { Usage } from '@anthropic-ai/sdk/resources/messages/messages';
import type { CompletionUsage } from 'openai/resources/completions';
import type { ResponseOutputItem, ResponseUsage } from 'openai/resources/responses/responses';

const total = (units: Record<string, number>, classes: string[]) => classes.reduce((sum, unit) => sum + (units[unit] ?? 0), 0);
const INPUT = ['input_tokens', 'cached_input_tokens', 'cache_write_tokens', 'audio_input_tokens'];
const OUTPUT = ['output_tokens', 'reasoning_tokens', 'audio_output_tokens'];

test('chat completions: details are within the totals', () => {
  const usage: CompletionUsage = {
    prompt_tokens: 1_000,
    completion_tokens: 500,
    total_tokens: 1_500,
    prompt_tokens_details: { cached_tokens: 200, audio_tokens: 40, cache_write_tokens: 60, text_tokens: 960, image_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 300,
      audio_tokens: 20,
      accepted_prediction_tokens: 5,
      rejected_prediction_tokens: 7,
    },
  };
  const units = chatCompletionUnits(usage);
  assert.deepEqual(units, {
    input_tokens: 700,
    cached_input_tokens: 200,
    cache_write_tokens: 60,
    audio_input_tokens: 40,
    output_tokens: 180,
    reasoning_tokens: 300,
    audio_output_tokens: 20,
  });
});

test('chat completions: usage without details', () => {
  const units = chatCompletionUnits({ prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 });
  assert.deepEqual([total(units, INPUT), units['input_tokens']], [10, 10]);
  assert.deepEqual([total(units, OUTPUT), units['output_tokens']], [5, 5]);
});

test('inconsistent details never exceed the totals', () => {
  const units = chatCompletionUnits({
    prompt_tokens: 100,
    completion_tokens: 10,
    total_tokens: 110,
    prompt_tokens_details: { cached_tokens: 90, audio_tokens: 50, cache_write_tokens: -5 },
    completion_tokens_details: { reasoning_tokens: 30 },
  });
  assert.equal(total(units, INPUT), 100);
  assert.equal(total(units, OUTPUT), 10);
  assert(Object.values(units).every((count) => count >= 0));
});

test('responses: details are within the totals, and charged tools are counted', () => {
  const usage: ResponseUsage = {
    input_tokens: 900,
    input_tokens_details: { cached_tokens: 300, cache_write_tokens: 100 },
    output_tokens: 400,
    output_tokens_details: { reasoning_tokens: 250 },
    total_tokens: 1_300,
  };
  const output = ['web_search_call', 'file_search_call', 'function_call', 'code_interpreter_call', 'mcp_call', 'message'];
  const units = responseUnits(
    usage,
    output.map((type) => ({ type }) as ResponseOutputItem),
  );
  assert.deepEqual(units, {
    input_tokens: 500,
    cached_input_tokens: 300,
    cache_write_tokens: 100,
    output_tokens: 150,
    reasoning_tokens: 250,
    tool_calls: 3,
  });
});

test('embeddings have input alone', () => {
  assert.deepEqual(embeddingUnits({ prompt_tokens: 8, total_tokens: 8 }), { input_tokens: 8 });
});

const MESSAGE: Usage = {
  input_tokens: 50,
  cache_read_input_tokens: 2_000,
  cache_creation_input_tokens: 400,
  cache_creation: { ephemeral_5m_input_tokens: 400, ephemeral_1h_input_tokens: 0 },
  output_tokens: 300,
  output_tokens_details: { thinking_tokens: 120 },
  server_tool_use: { web_search_requests: 2, web_fetch_requests: 1 },
  inference_geo: null,
  service_tier: 'standard',
  speed: null,
};

test('messages: cached tokens are beside the input, and thinking is within the output', () => {
  assert.deepEqual(messageUnits(MESSAGE), {
    input_tokens: 50,
    cached_input_tokens: 2_000,
    cache_write_tokens: 400,
    output_tokens: 180,
    reasoning_tokens: 120,
    tool_calls: 3,
  });
});

test('messages: usage without details', () => {
  const units = messageUnits({ input_tokens: 5, output_tokens: 7, output_tokens_details: null, server_tool_use: null });
  assert.deepEqual([total(units, INPUT), total(units, OUTPUT), units['output_tokens'], units['tool_calls']], [5, 7, 7, 0]);
});

test('messages: compactions and advisors are beside the totals', () => {
  const iteration = { cache_creation: null, cache_creation_input_tokens: 3, cache_read_input_tokens: 4, output_tokens: 10 };
  const usage: Pick<BetaUsage, 'input_tokens' | 'output_tokens' | 'iterations'> = {
    input_tokens: 100,
    output_tokens: 20,
    iterations: [
      { type: 'compaction', input_tokens: 1_000, ...iteration },
      { type: 'message', input_tokens: 100, model: null, ...iteration },
      { type: 'advisor_message', input_tokens: 500, model: 'claude-opus-5-5', ...iteration },
    ],
  };
  const units = messageUnits(usage);
  assert.deepEqual([units['input_tokens'], units['cached_input_tokens'], units['cache_write_tokens']], [1_600, 8, 6]);
  assert.equal(total(units, OUTPUT), 40);
});

test('AI SDK: totals and their parts', () => {
  const usage: LanguageModelUsage = {
    inputTokens: { total: 1_000, noCache: 700, cacheRead: 200, cacheWrite: 100 },
    outputTokens: { total: 500, text: 380, reasoning: 120 },
  };
  assert.deepEqual(languageModelUnits(usage, 2), {
    input_tokens: 700,
    cached_input_tokens: 200,
    cache_write_tokens: 100,
    output_tokens: 380,
    reasoning_tokens: 120,
    tool_calls: 2,
  });
});

test('AI SDK: parts without a total', () => {
  const usage: LanguageModelUsage = {
    inputTokens: { total: undefined, noCache: 700, cacheRead: 200, cacheWrite: undefined },
    outputTokens: { total: undefined, text: 30, reasoning: undefined },
  };
  const units = languageModelUnits(usage);
  assert.deepEqual([units['input_tokens'], units['cached_input_tokens'], total(units, OUTPUT)], [700, 200, 30]);
});
