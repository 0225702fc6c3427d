// Anthropic's messages.
import { argumentDeltas, lastUserText } from './plan.js';

const ERROR_TYPES = { 400: 'invalid_request_error', 404: 'not_found_error', 429: 'rate_limit_error', 529: 'overloaded_error' };
const CALLER = { type: 'direct' };

function failure(status, message) {
  return { type: 'error', error: { type: ERROR_TYPES[status] ?? 'api_error', message }, request_id: 'req_1' };
}

const RESULTS = {
  web_search: (tool_use_id) => {
    const page = { url: 'https://weather.example', title: 'Weather', encrypted_content: 'e30=', page_age: null };
    const found = { type: 'web_search_result', ...page };
    return { type: 'web_search_tool_result', caller: CALLER, tool_use_id, content: [found] };
  },
  web_fetch: (tool_use_id) => {
    const source = { type: 'text', media_type: 'text/plain', data: 'Sunny.' };
    const document = { type: 'document', source, title: null, citations: null };
    const content = { type: 'web_fetch_result', url: 'https://weather.example', content: document, retrieved_at: null };
    return { type: 'web_fetch_tool_result', caller: CALLER, tool_use_id, content };
  },
};
const INPUTS = { web_search: { query: 'weather' }, web_fetch: { url: 'https://weather.example' } };

export const messages = {
  path: '/v1/messages',
  required: ['model', 'messages', 'max_tokens'],
  serverTools: Object.keys(RESULTS),
  failure,
  streamFailure: { name: 'error', data: failure(529, 'Overloaded') },

  read({ messages: sent, max_tokens }) {
    const isResult = ({ content }) => Array.isArray(content) && content.some(({ type }) => type === 'tool_result');
    return { ...lastUserText(sent, isResult), limit: max_tokens };
  },

  plain(call) {
    const { answer } = call;
    return { ...opened(call), content: blocks(call), stop_reason: stopReason(answer), usage: usage(answer, answer) };
  },

  *events(call) {
    const { answer } = call;
    const event = (type, fields) => ({ name: type, data: { type, ...fields } });
    yield event('message_start', { message: opened(call) });
    yield event('ping', {});
    for (const [index, block] of blocks(call).entries()) {
      const { start, deltas } = streamed(block, answer);
      yield event('content_block_start', { index, content_block: start });
      for (const delta of deltas) {
        yield { ...event('content_block_delta', { index, delta }), isDelta: delta.type !== 'signature_delta' };
      }
      yield event('content_block_stop', { index });
    }
    if (!answer.usage) return;
    const delta = { container: null, stop_details: null, stop_reason: stopReason(answer), stop_sequence: null };
    yield event('message_delta', { delta, usage: deltaUsage(answer) });
    yield event('message_stop', {});
  },
};

function opened({ id, body, answer }) {
  return {
    id, type: 'message', role: 'assistant', model: body.model, container: null, content: [], diagnostics: null,
    stop_details: null, stop_reason: null, stop_sequence: null,
    usage: usage(answer, { output: 1, reasoning: 0, server_tools: {} }),
  };
}

/** Returns the whole content blocks of an answer. */
function blocks({ body, answer }) {
  const { reasoning, reasoningDeltas, textDeltas, functions, server_tools } = answer;
  const thinking = { type: 'thinking', thinking: reasoningDeltas.join(''), signature: 'c2lnbmVk' };
  const name = body.tools?.find(({ input_schema }) => input_schema)?.name ?? 'lookup';
  const called = (_, at) => ({ type: 'tool_use', id: `toolu_${at + 1}`, caller: CALLER, name, input: { call: at + 1 } });
  const run = ([tool, count]) => Array.from({ length: count }, (_, at) => serverTool(tool, at)).flat();
  return [
    ...(reasoning ? [thinking] : []),
    ...Object.entries(server_tools).flatMap(run),
    { type: 'text', text: textDeltas.join(''), citations: null },
    ...Array.from({ length: functions }, called),
  ];
}

function serverTool(name, at) {
  const id = `srvtoolu_${name}_${at + 1}`;
  return [{ type: 'server_tool_use', id, caller: CALLER, name, input: INPUTS[name] }, RESULTS[name](id)];
}

/** Splits a block into its first event and its deltas. */
function streamed(block, { textDeltas, reasoningDeltas }) {
  if (block.type === 'text') {
    return { start: { ...block, text: '' }, deltas: textDeltas.map((text) => ({ type: 'text_delta', text })) };
  }
  if (block.type === 'thinking') {
    const thoughts = reasoningDeltas.map((thinking) => ({ type: 'thinking_delta', thinking }));
    const signature = { type: 'signature_delta', signature: block.signature };
    return { start: { ...block, thinking: '', signature: '' }, deltas: [...thoughts, signature] };
  }
  if (block.input === undefined) return { start: block, deltas: [] };
  const json = block.type === 'tool_use' ? argumentDeltas(block.input.call - 1) : [JSON.stringify(block.input)];
  return { start: { ...block, input: {} }, deltas: json.map((partial_json) => ({ type: 'input_json_delta', partial_json })) };
}

function stopReason({ finish, truncated, functions }) {
  return finish ?? (truncated ? 'max_tokens' : functions ? 'tool_use' : 'end_turn');
}

/** Counts as Anthropic does: cached tokens are beside the input, and thinking is inside the output. */
function usage({ input, cached, cache_write }, { output, reasoning, server_tools }) {
  return {
    input_tokens: input,
    cache_read_input_tokens: cached,
    cache_creation_input_tokens: cache_write,
    cache_creation: { ephemeral_5m_input_tokens: cache_write, ephemeral_1h_input_tokens: 0 },
    output_tokens: output + reasoning,
    output_tokens_details: { thinking_tokens: reasoning },
    server_tool_use: serverToolUsage(server_tools),
    service_tier: 'standard',
    inference_geo: null,
    speed: 'standard',
  };
}

function deltaUsage(answer) {
  const { input_tokens, cache_read_input_tokens, cache_creation_input_tokens, ...rest } = usage(answer, answer);
  const { output_tokens, output_tokens_details, server_tool_use } = rest;
  const inputs = { input_tokens, cache_read_input_tokens, cache_creation_input_tokens };
  return { ...inputs, output_tokens, output_tokens_details, server_tool_use };
}

function serverToolUsage({ web_search = 0, web_fetch = 0 }) {
  return web_search + web_fetch ? { web_search_requests: web_search, web_fetch_requests: web_fetch } : null;
}
