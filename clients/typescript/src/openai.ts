import type { OpenAI } from 'openai';
import type { ChatCompletionCreateParams } from 'openai/resources/chat/completions';
import type { EmbeddingCreateParams } from 'openai/resources/embeddings';
import type { ResponseCreateParams } from 'openai/resources/responses/responses';
import { NotGated } from './errors.ts';
import { inputTokensOf } from './estimate.ts';
import { type GateOptions, type GatedRequest, gated } from './gated-sdk.ts';
import { ChatCompletionMeter, EmbeddingMeter, ResponseMeter } from './openai-usage.ts';
import type { Units } from './types.ts';

export { chatCompletionUnits, embeddingUnits, responseUnits } from './openai-usage.ts';

/** A request that is gated. */
export type OpenAIRequest = ChatCompletionCreateParams | ResponseCreateParams | EmbeddingCreateParams;

/** The workspace that pays the calls of OpenAI's client, and their prices. */
export type OpenAICreditsOptions = GateOptions<OpenAIRequest>;

// POSTs that call no model.
const FREE = /^\/(files|uploads(\/.*)?|responses\/(input_tokens|[^/]+\/cancel)|chat\/completions\/[^/]+)$/;

/**
 * Returns a copy of a client of OpenAI that pays chat completions, responses and embeddings with credits. Other calls of
 * a model throw `NotGated`. The given client does not change.
 */
export function withCredits<Client extends OpenAI>(client: Client, options: OpenAICreditsOptions): Client {
  const gate = (path: string, body: object) => {
    if (path === '/chat/completions') return chatCompletion(body as ChatCompletionCreateParams, options);
    if (path === '/responses') return response(body as ResponseCreateParams, options);
    if (path === '/embeddings') return embedding(body as EmbeddingCreateParams, options);
    if (FREE.test(path)) return undefined;
    throw notGated(`POST ${path}`);
  };
  return gated(client, { name: 'openai', gate, replaced: WEBSOCKETS }, options);
}

// The SDK's classes for WebSockets take their headers from the client.
const WEBSOCKETS = {
  _buildWebSocketHeaders(): never {
    throw notGated('a WebSocket');
  },
};

function notGated(call: string): NotGated {
  return new NotGated(`openai: ${call} is not gated by credits. Use the client that you gave to withCredits for it.`);
}

function chatCompletion(body: ChatCompletionCreateParams, options: OpenAICreditsOptions): GatedRequest {
  const { messages, tools, functions, response_format: format, max_tokens: tokens, n } = body;
  const units = options.estimate?.(body) ?? {
    input_tokens: inputTokensOf(messages, [tools, functions, format]),
    output_tokens: (body.max_completion_tokens ?? tokens ?? options.defaultMaxTokens ?? 4_096) * (n ?? 1),
  };
  const meter = new ChatCompletionMeter(units, body.stream_options?.include_usage ?? false);
  const sent = body.stream ? { ...body, stream_options: { ...body.stream_options, include_usage: true } } : body;
  return { model: body.model, units, meter, body: sent };
}

function response(body: ResponseCreateParams, options: OpenAICreditsOptions): GatedRequest {
  if (body.background) throw notGated('a response in the background');
  const { input, instructions, prompt, tools, text, model, max_output_tokens: tokens } = body;
  if (model === undefined) throw new NotGated('openai: a response without a model has no price');
  const units = options.estimate?.(body) ?? {
    input_tokens: inputTokensOf([input, instructions, prompt?.variables], [tools, text]),
    output_tokens: tokens ?? options.defaultMaxTokens ?? 4_096,
  };
  return { model, units, meter: new ResponseMeter(units), body };
}

function embedding(body: EmbeddingCreateParams, options: OpenAICreditsOptions): GatedRequest {
  const units: Units = options.estimate?.(body) ?? { input_tokens: inputTokensOf(body.input, []) };
  return { model: body.model, units, meter: new EmbeddingMeter(units), body };
}
