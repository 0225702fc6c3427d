// OpenAI's chat completions and embeddings.
import { argumentDeltas, lastUserText } from './plan.js';

/** Returns OpenAI's body of an error. */
export function openaiFailure(status, message) {
  const type = status === 429 ? 'rate_limit_error' : status >= 500 ? 'server_error' : 'invalid_request_error';
  return { error: { message, type, param: null, code: status === 429 ? 'rate_limit_exceeded' : null } };
}

export const chat = {
  path: '/v1/chat/completions',
  required: ['model', 'messages'],
  serverTools: [],
  failure: openaiFailure,
  streamFailure: { data: openaiFailure(500, 'The model failed midway.') },
  end: 'data: [DONE]\n\n',

  read({ messages, max_completion_tokens, max_tokens }) {
    const limit = max_completion_tokens ?? max_tokens ?? undefined;
    return { ...lastUserText(messages, ({ role }) => role === 'tool'), limit };
  },

  plain({ id, created, body, answer }) {
    const message = { role: 'assistant', content: answer.textDeltas.join(''), refusal: null, annotations: [] };
    const calls = toolCalls(body, answer);
    const choice = (index) => ({
      index,
      message: calls.length ? { ...message, tool_calls: calls } : message,
      logprobs: null,
      finish_reason: finishReason(answer),
    });
    const choices = Array.from({ length: body.n ?? 1 }, (_, index) => choice(index));
    const completion = { id, object: 'chat.completion', created, model: body.model, choices, service_tier: 'default' };
    return answer.usage ? { ...completion, usage: usage(answer, choices.length) } : completion;
  },

  *events({ id, created, body, answer }) {
    const withUsage = body.stream_options?.include_usage && answer.usage;
    const base = { id, object: 'chat.completion.chunk', created, model: body.model, service_tier: 'default' };
    const chunk = (choices, counts) => ({ data: { ...base, choices, ...(withUsage && { usage: counts ?? null }) } });
    const choices = body.n ?? 1;
    for (let index = 0; index < choices; index++) {
      const part = (delta, finish_reason = null) => chunk([{ index, delta, logprobs: null, finish_reason }]);
      yield part({ role: 'assistant', content: '', refusal: null });
      for (const content of answer.textDeltas) yield { ...part({ content }), isDelta: true };
      for (const [at, { id: callId, type, function: called }] of toolCalls(body, answer).entries()) {
        yield part({ tool_calls: [{ index: at, id: callId, type, function: { name: called.name, arguments: '' } }] });
        const argumentPart = (text) => part({ tool_calls: [{ index: at, function: { arguments: text } }] });
        for (const text of argumentDeltas(at)) yield { ...argumentPart(text), isDelta: true };
      }
      yield part({}, finishReason(answer));
    }
    if (withUsage) yield chunk([], usage(answer, choices));
  },
};

export const embeddings = {
  path: '/v1/embeddings',
  required: ['model', 'input'],
  serverTools: [],
  failure: openaiFailure,

  read({ input }) {
    return { text: [input].flat()[0] };
  },

  plain({ body, answer }) {
    const inputs = Array.isArray(body.input) && typeof body.input[0] !== 'number' ? body.input : [body.input];
    const vector = Float32Array.of(0.25, -0.5, 1);
    const embedding = body.encoding_format === 'base64' ? Buffer.from(vector.buffer).toString('base64') : [...vector];
    const data = inputs.map((_, index) => ({ object: 'embedding', index, embedding }));
    return { object: 'list', data, model: body.model, usage: { prompt_tokens: answer.input, total_tokens: answer.input } };
  },
};

function toolCalls({ tools }, { functions }) {
  const name = tools?.find(({ type }) => type === 'function')?.function.name ?? 'lookup';
  const call = (_, at) => {
    return { id: `call_${at + 1}`, type: 'function', function: { name, arguments: argumentDeltas(at).join('') } };
  };
  return Array.from({ length: functions }, call);
}

function finishReason({ finish, truncated, functions }) {
  return finish ?? (truncated ? 'length' : functions ? 'tool_calls' : 'stop');
}

/** Counts as OpenAI does: the details are inside the totals. Each choice has the output again. */
function usage({ input, cached, cache_write, audio_input, output, reasoning, audio_output }, choices) {
  const prompt_tokens = input + cached + cache_write + audio_input;
  const completion_tokens = choices * (output + reasoning + audio_output);
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    prompt_tokens_details: { cached_tokens: cached, audio_tokens: audio_input, cache_write_tokens: cache_write },
    completion_tokens_details: {
      reasoning_tokens: choices * reasoning, audio_tokens: choices * audio_output,
      accepted_prediction_tokens: 0, rejected_prediction_tokens: 0,
    },
  };
}
