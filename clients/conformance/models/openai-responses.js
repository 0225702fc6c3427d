// OpenAI's Responses API.
import { openaiFailure } from './openai-chat.js';
import { argumentDeltas, lastUserText } from './plan.js';

const SERVER_TOOLS = {
  web_search: {
    type: 'web_search_call', status: 'completed', action: { type: 'search', query: 'weather', queries: ['weather'] },
  },
  file_search: { type: 'file_search_call', status: 'completed', queries: ['weather'], results: null },
  code_interpreter: {
    type: 'code_interpreter_call', status: 'completed', code: 'print(1)', container_id: 'cntr_1', outputs: null,
  },
};

export const responses = {
  path: '/v1/responses',
  required: ['model', 'input'],
  serverTools: Object.keys(SERVER_TOOLS),
  failure: openaiFailure,
  streamFailure: {
    name: 'error',
    data: { type: 'error', code: 'server_error', message: 'The model failed midway.', param: null, sequence_number: 1000 },
  },

  read({ input, max_output_tokens }) {
    const messages = typeof input === 'string' ? [{ role: 'user', content: input }] : input;
    const isResult = ({ type }) => type === 'function_call_output';
    return { ...lastUserText(messages, isResult), limit: max_output_tokens ?? undefined };
  },

  plain(call) {
    return { ...started(call), ...ended(call, items(call)) };
  },

  *events(call) {
    let sequence_number = 0;
    const event = (type, fields) => ({ name: type, data: { type, sequence_number: sequence_number++, ...fields } });
    yield event('response.created', { response: started(call) });
    yield event('response.in_progress', { response: started(call) });
    const output = items(call);
    for (const [output_index, item] of output.entries()) {
      const inner = (type, fields) => event(`response.${type}`, { item_id: item.id, output_index, ...fields });
      yield event('response.output_item.added', { output_index, item: begun(item) });
      yield* EVENTS[item.type](item, inner, call.answer);
      yield event('response.output_item.done', { output_index, item });
    }
    const response = { ...started(call), ...ended(call, output) };
    yield event(`response.${response.status}`, { response });
  },
};

/** The events between the first and the last one of an item, by its type. */
const EVENTS = {
  *reasoning({ summary }, inner, { reasoningDeltas }) {
    const at = { summary_index: 0 };
    yield inner('reasoning_summary_part.added', { ...at, part: { type: 'summary_text', text: '' } });
    for (const delta of reasoningDeltas) yield { ...inner('reasoning_summary_text.delta', { ...at, delta }), isDelta: true };
    yield inner('reasoning_summary_text.done', { ...at, text: summary[0].text });
    yield inner('reasoning_summary_part.done', { ...at, part: summary[0] });
  },
  *message({ content: [part] }, inner, { textDeltas }) {
    const at = { content_index: 0 };
    yield inner('content_part.added', { ...at, part: { ...part, text: '' } });
    for (const delta of textDeltas) yield { ...inner('output_text.delta', { ...at, delta, logprobs: [] }), isDelta: true };
    yield inner('output_text.done', { ...at, text: part.text, logprobs: [] });
    yield inner('content_part.done', { ...at, part });
  },
  *function_call({ arguments: whole, name }, inner) {
    const split = whole.indexOf(':') + 1;
    for (const delta of [whole.slice(0, split), whole.slice(split)]) {
      yield { ...inner('function_call_arguments.delta', { delta }), isDelta: true };
    }
    yield inner('function_call_arguments.done', { arguments: whole, name });
  },
  web_search_call: searchEvents,
  file_search_call: searchEvents,
  *code_interpreter_call({ code }, inner) {
    yield inner('code_interpreter_call.in_progress', {});
    yield inner('code_interpreter_call_code.delta', { delta: code });
    yield inner('code_interpreter_call_code.done', { code });
    yield inner('code_interpreter_call.interpreting', {});
    yield inner('code_interpreter_call.completed', {});
  },
};

function* searchEvents({ type }, inner) {
  for (const phase of ['in_progress', 'searching', 'completed']) yield inner(`${type}.${phase}`, {});
}

/** Returns the output items of an answer. */
function items({ id, body, answer }) {
  const { reasoning, reasoningDeltas, textDeltas, functions, truncated, server_tools } = answer;
  const status = truncated ? 'incomplete' : 'completed';
  const thought = { type: 'reasoning', summary: [{ type: 'summary_text', text: reasoningDeltas.join('') }] };
  const name = body.tools?.find(({ type }) => type === 'function')?.name ?? 'lookup';
  const called = (_, at) => {
    return { type: 'function_call', call_id: `call_${at + 1}`, name, arguments: argumentDeltas(at).join(''), status };
  };
  const text = { type: 'output_text', text: textDeltas.join(''), annotations: [], logprobs: [] };
  const tools = Object.entries(server_tools).flatMap(([tool, count]) => Array(count).fill(SERVER_TOOLS[tool]));
  const output = [
    ...(reasoning ? [thought] : []),
    ...tools,
    { type: 'message', role: 'assistant', status, content: [text] },
    ...Array.from({ length: functions }, called),
  ];
  return output.map((item, at) => ({ ...item, id: `item_${at + 1}_${id}` }));
}

/** What the first event of an item leaves out, by the item's type. */
const EMPTY = {
  message: { content: [] }, reasoning: { summary: [] }, function_call: { arguments: '' }, code_interpreter_call: { code: '' },
};

/** Returns an item as its first event has it. */
function begun(item) {
  return { ...item, ...EMPTY[item.type], ...(item.status && { status: 'in_progress' }) };
}

function started({ id, created, body }) {
  return {
    id, object: 'response', created_at: created, status: 'in_progress', access_programs: null, background: false, error: null,
    incomplete_details: null, instructions: body.instructions ?? null, max_output_tokens: body.max_output_tokens ?? null,
    metadata: body.metadata ?? {}, model: body.model, output: [], parallel_tool_calls: true, previous_response_id: null,
    reasoning: { effort: null, summary: null }, service_tier: 'default', temperature: 1,
    text: body.text ?? { format: { type: 'text' } },
    tool_choice: body.tool_choice ?? 'auto', tools: body.tools ?? [], top_p: 1, truncation: 'disabled', usage: null, user: null,
  };
}

function ended({ created, answer }, output) {
  const { truncated, finish, server_tools } = answer;
  const reason = finish ?? (truncated ? 'max_output_tokens' : undefined);
  return {
    status: reason ? 'incomplete' : 'completed',
    incomplete_details: reason ? { reason } : null,
    completed_at: created,
    output,
    tool_usage: { image_gen: NO_IMAGES, web_search: { num_requests: server_tools.web_search ?? 0 } },
    usage: answer.usage ? usage(answer) : null,
  };
}

const NO_IMAGES = {
  input_tokens: 0, input_tokens_details: { image_tokens: 0, text_tokens: 0 },
  output_tokens: 0, output_tokens_details: { image_tokens: 0, text_tokens: 0 }, total_tokens: 0,
};

/** Counts as OpenAI does: the details are inside the totals. */
function usage({ input, cached, cache_write, output, reasoning }) {
  const [input_tokens, output_tokens] = [input + cached + cache_write, output + reasoning];
  return {
    input_tokens,
    input_tokens_details: { cached_tokens: cached, cache_write_tokens: cache_write },
    output_tokens,
    output_tokens_details: { reasoning_tokens: reasoning },
    total_tokens: input_tokens + output_tokens,
  };
}
