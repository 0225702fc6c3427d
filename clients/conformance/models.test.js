// Tests that the fake provider answers in the shapes of OpenAI's and Anthropic's APIs, as the plans say.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startModels } from './models.js';

let models;
before(async () => {
  models = await startModels();
});
after(() => models.close());

const user = (plan) => ({ role: 'user', content: JSON.stringify(plan) });
/** The request of each API that has a plan, and its stream. */
const REQUESTS = {
  '/v1/chat/completions': (plan) => ({ model: 'large', messages: [user(plan)] }),
  '/v1/responses': (plan) => ({ model: 'large', input: [user(plan)] }),
  '/v1/messages': (plan) => ({ model: 'large', messages: [user(plan)], max_tokens: 1000 }),
};
const [CHAT, RESPONSES, MESSAGES] = Object.keys(REQUESTS);
const USED = { input: 100, cached: 40, cache_write: 7, output: 2, reasoning: 3 };

function send(path, body, signal) {
  return fetch(`${models.url}${path}`, { method: 'POST', body: JSON.stringify(body), signal });
}

async function ask(path, plan, options = {}) {
  const response = await send(path, { ...REQUESTS[path](plan), ...options });
  assert.equal(response.headers.get('content-type'), 'application/json');
  return { status: response.status, headers: response.headers, body: await response.json() };
}

/** Returns the server-sent events of a stream; `broken` if it did not end. */
async function stream(path, plan, options = {}) {
  const response = await send(path, { ...REQUESTS[path](plan), stream: true, ...options });
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  let text = '';
  let broken = false;
  try {
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) text += chunk;
  } catch {
    broken = true;
  }
  const events = text.split('\n\n').filter(Boolean).map((event) => {
    const [, name, data] = /^(?:event: (.*)\n)?data: (.*)$/.exec(event);
    return { name, data: data === '[DONE]' ? data : JSON.parse(data) };
  });
  return { events, broken };
}

const names = ({ events }) => events.map(({ name }) => name);

async function requests(id) {
  return (await fetch(`${models.url}/_requests?id=${id}`)).json();
}

test('a chat completion has its counts inside the totals', async () => {
  const { body } = await ask(CHAT, { ...USED, audio_input: 5, audio_output: 1, functions: 1 }, { n: 2 });
  assert.match(body.id, /^answer_/);
  assert.deepEqual([body.object, body.model, typeof body.created], ['chat.completion', 'large', 'number']);
  const call = { id: 'call_1', type: 'function', function: { name: 'lookup', arguments: '{"call":1}' } };
  const message = { role: 'assistant', content: 'word1 word2 ', refusal: null, annotations: [], tool_calls: [call] };
  const choice = { message, logprobs: null, finish_reason: 'tool_calls' };
  assert.deepEqual(body.choices, [{ index: 0, ...choice }, { index: 1, ...choice }]);
  assert.deepEqual(body.usage, {
    prompt_tokens: 152, completion_tokens: 12, total_tokens: 164,
    prompt_tokens_details: { cached_tokens: 40, audio_tokens: 5, cache_write_tokens: 7 },
    completion_tokens_details: {
      reasoning_tokens: 6, audio_tokens: 2, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0,
    },
  });
});

test('a streamed chat completion has usage if it is asked for', async () => {
  const { events } = await stream(CHAT, { ...USED, functions: 1 }, { stream_options: { include_usage: true } });
  assert.equal(events.at(-1).data, '[DONE]');
  const chunks = events.slice(0, -1).map(({ data }) => data);
  assert.deepEqual([...new Set(chunks.map(({ object }) => object))], ['chat.completion.chunk']);
  const [counted, ...earlier] = chunks.toReversed();
  assert.deepEqual([counted.choices, counted.usage.total_tokens], [[], 152]);
  assert.ok(earlier.every(({ usage }) => usage === null));
  const deltas = earlier.toReversed().map(({ choices: [{ delta }] }) => delta);
  assert.deepEqual(deltas.map(({ content }) => content ?? ''), ['', 'word1 ', 'word2 ', '', '', '', '']);
  const calls = deltas.flatMap(({ tool_calls = [] }) => tool_calls);
  assert.deepEqual(calls[0], { index: 0, id: 'call_1', type: 'function', function: { name: 'lookup', arguments: '' } });
  assert.equal(calls.map((call) => call.function.arguments).join(''), '{"call":1}');
  assert.deepEqual(earlier[0].choices, [{ index: 0, delta: {}, logprobs: null, finish_reason: 'tool_calls' }]);
});

test('a streamed chat completion has no usage by default', async () => {
  const { events } = await stream(CHAT, {});
  assert.ok(events.slice(0, -1).every(({ data }) => !('usage' in data)));
});

test('a response has its items and counts', async () => {
  const server_tools = { web_search: 2, file_search: 1, code_interpreter: 1 };
  const { body } = await ask(RESPONSES, { ...USED, functions: 1, server_tools });
  const tools = ['web_search_call', 'web_search_call', 'file_search_call', 'code_interpreter_call'];
  assert.deepEqual(body.output.map(({ type }) => type), ['reasoning', ...tools, 'message', 'function_call']);
  assert.deepEqual([body.object, body.status, body.error], ['response', 'completed', null]);
  assert.equal(body.tool_usage.web_search.num_requests, 2);
  assert.deepEqual(body.usage, {
    input_tokens: 147, input_tokens_details: { cached_tokens: 40, cache_write_tokens: 7 },
    output_tokens: 5, output_tokens_details: { reasoning_tokens: 3 }, total_tokens: 152,
  });
});

test('a streamed response ends with the whole response', async () => {
  const { events } = await stream(RESPONSES, { ...USED, functions: 1, server_tools: { web_search: 1, code_interpreter: 1 } });
  assert.deepEqual(events.map(({ name }) => name), events.map(({ data }) => data.type));
  assert.deepEqual(events.map(({ data }) => data.sequence_number), events.map((_, at) => at));
  const [first, last] = [events[0].data, events.at(-1).data];
  assert.deepEqual([first.type, first.response.status, first.response.usage], ['response.created', 'in_progress', null]);
  assert.deepEqual([last.type, last.response.usage.total_tokens], ['response.completed', 152]);
  const done = events.filter(({ name }) => name === 'response.output_item.done').map(({ data }) => data.item);
  assert.deepEqual(done, last.response.output);
  const text = (name) => events.filter((event) => event.name === name).map(({ data }) => data.delta).join('');
  assert.equal(text('response.output_text.delta'), 'word1 word2 ');
  assert.equal(text('response.reasoning_summary_text.delta'), 'think1 think2 think3 ');
  assert.equal(text('response.function_call_arguments.delta'), '{"call":1}');
});

test('a message has its counts beside each other', async () => {
  const { body } = await ask(MESSAGES, { ...USED, functions: 1, server_tools: { web_search: 2, web_fetch: 1 } });
  const tools = ['web_search', 'web_search', 'web_fetch'].flatMap((tool) => ['server_tool_use', `${tool}_tool_result`]);
  assert.deepEqual(body.content.map(({ type }) => type), ['thinking', ...tools, 'text', 'tool_use']);
  assert.deepEqual([body.type, body.role, body.stop_reason, body.stop_sequence], ['message', 'assistant', 'tool_use', null]);
  assert.deepEqual(body.usage, {
    input_tokens: 100, cache_read_input_tokens: 40, cache_creation_input_tokens: 7,
    cache_creation: { ephemeral_5m_input_tokens: 7, ephemeral_1h_input_tokens: 0 },
    output_tokens: 5, output_tokens_details: { thinking_tokens: 3 },
    server_tool_use: { web_search_requests: 2, web_fetch_requests: 1 },
    service_tier: 'standard', inference_geo: null, speed: 'standard',
  });
});

test('a streamed message has all its events', async () => {
  const { events } = await stream(MESSAGES, { ...USED, functions: 1, server_tools: { web_search: 1 } });
  assert.deepEqual(events.map(({ name }) => name), events.map(({ data }) => data.type));
  const block = (deltas) => ['content_block_start', ...Array(deltas).fill('content_block_delta'), 'content_block_stop'];
  const blocks = [...block(4), ...block(1), ...block(0), ...block(2), ...block(2)];
  assert.deepEqual(names({ events }), ['message_start', 'ping', ...blocks, 'message_delta', 'message_stop']);
  assert.deepEqual([events[0].data.message.content, events[0].data.message.usage.input_tokens], [[], 100]);
  assert.deepEqual(events.at(-2).data, {
    type: 'message_delta',
    delta: { container: null, stop_details: null, stop_reason: 'tool_use', stop_sequence: null },
    usage: {
      input_tokens: 100, cache_read_input_tokens: 40, cache_creation_input_tokens: 7, output_tokens: 5,
      output_tokens_details: { thinking_tokens: 3 }, server_tool_use: { web_search_requests: 1, web_fetch_requests: 0 },
    },
  });
});

test('embeddings are numbers or base64', async () => {
  const embed = async (body) => (await send('/v1/embeddings', { model: 'small', ...body })).json();
  const two = await embed({ input: ['{"input":7}', 'b'] });
  assert.deepEqual(two.data.map(({ index, embedding }) => [index, embedding]), [[0, [0.25, -0.5, 1]], [1, [0.25, -0.5, 1]]]);
  assert.deepEqual([two.object, two.usage], ['list', { prompt_tokens: 7, total_tokens: 7 }]);
  const encoded = await embed({ input: 'a', encoding_format: 'base64' });
  const bytes = Uint8Array.from(Buffer.from(encoded.data[0].embedding, 'base64'));
  assert.deepEqual([...new Float32Array(bytes.buffer)], [0.25, -0.5, 1]);
});

for (const path of Object.keys(REQUESTS)) {
  test(`${path}: the first attempts fail`, async () => {
    const plan = { id: `fails${path}`, fail: { status: 429, times: 2 } };
    const answers = [await ask(path, plan), await ask(path, plan), await ask(path, plan)];
    assert.deepEqual(answers.map(({ status }) => status), [429, 429, 200]);
    assert.equal(answers[0].headers.get('retry-after-ms'), '1');
    assert.deepEqual([answers[0].body.error.type, answers[0].body.error.message], ['rate_limit_error', 'The model failed.']);
    const { count, requests: seen } = await requests(plan.id);
    assert.deepEqual([count, seen.map(({ attempt }) => attempt)], [3, [1, 2, 3]]);
  });

  test(`${path}: all attempts fail`, async () => {
    const plan = { fail: { status: 500 } };
    for (let attempt = 0; attempt < 4; attempt++) assert.equal((await ask(path, plan)).status, 500);
  });

  test(`${path}: the stream breaks`, async () => {
    const { events, broken } = await stream(path, { break_after: 3, reasoning: 1 });
    assert.ok(broken);
    const text = JSON.stringify(events);
    const [seen, unseen] = path === CHAT ? ['word3', 'word4'] : ['word2', 'word3'];
    assert.ok(text.includes(seen) && !text.includes(unseen), text);
    assert.deepEqual(await stream(path, { break_after: 0 }), { events: [], broken: true });
    await assert.rejects(ask(path, { break_after: 0 }), TypeError, 'a plain answer breaks, too');
  });

  test(`${path}: the stream stalls until the client leaves`, async () => {
    const [id, leave] = [`stalls${path}`, new AbortController()];
    const response = await send(path, { ...REQUESTS[path]({ id, stall_after: 2 }), stream: true }, leave.signal);
    let text = '';
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (text.includes('word2')) break;
    }
    leave.abort();
    const { requests: [seen] } = await requests(id);
    assert.deepEqual([seen.path, seen.stream, seen.status, seen.closed], [path, true, 200, true]);
    assert.ok(!text.includes('word3'));
  });

  test(`${path}: the stream ends with an error`, async () => {
    const { events, broken } = await stream(path, { error_after: 1 });
    const { name, data } = events.at(-1);
    assert.deepEqual([broken, name], [false, path === CHAT ? undefined : 'error']);
    assert.ok(data.error?.message ?? data.message);
  });

  test(`${path}: a maximum of tokens cuts the answer`, async () => {
    const limit = { [CHAT]: 'max_completion_tokens', [RESPONSES]: 'max_output_tokens', [MESSAGES]: 'max_tokens' }[path];
    const { body } = await ask(path, { output: 5, reasoning: 3 }, { [limit]: 4 });
    assert.equal(body.usage.completion_tokens ?? body.usage.output_tokens, 4);
    const reasons = [body.choices?.[0].finish_reason, body.incomplete_details?.reason, body.stop_reason];
    assert.ok(['length', 'max_output_tokens', 'max_tokens'].includes(reasons.find(Boolean)));
    assert.ok(JSON.stringify(body).includes('word1') && !JSON.stringify(body).includes('word2'));
  });

  test(`${path}: usage may be absent`, async () => {
    const { events } = await stream(path, { usage: false }, path === CHAT ? { stream_options: { include_usage: true } } : {});
    const counted = events.slice(path === MESSAGES ? 1 : 0).filter(({ data }) => data.usage || data.response?.usage);
    assert.deepEqual(counted, []);
    assert.ok(JSON.stringify(events).includes('word20'));
  });

  test(`${path}: mistakes of a test are refused`, async () => {
    assert.equal((await ask(path, { outputs: 5 })).status, 400);
    assert.equal((await ask(path, { server_tools: { web: 1 } })).status, 400);
    assert.equal((await ask(path, {}, { model: undefined })).status, 400);
  });
}

test('a result of a function ends the calls of functions', async () => {
  const asked = { functions: 1 };
  const ended = {
    [CHAT]: { messages: [user(asked), { role: 'tool', tool_call_id: 'call_1', content: 'sunny' }] },
    [RESPONSES]: { input: [user(asked), { type: 'function_call_output', call_id: 'call_1', output: 'sunny' }] },
    [MESSAGES]: { messages: [user(asked), { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'toolu_1' }] }] },
  };
  for (const [path, options] of Object.entries(ended)) {
    assert.match(JSON.stringify((await ask(path, asked)).body), /lookup/);
    assert.doesNotMatch(JSON.stringify((await ask(path, {}, options)).body), /lookup/);
  }
});

test('another path is not found', async () => {
  assert.equal((await send('/v1/completions', {})).status, 404);
});

test('the command gets the address of the server', () => {
  const script = 'fetch(`${process.env.AI_CREDITS_MODELS}/_requests`).then(({ status }) => process.exit(status - 160))';
  const command = [fileURLToPath(new URL('models.js', import.meta.url)), '--', process.execPath, '-e', script];
  assert.equal(spawnSync(process.execPath, command).status, 40);
});
