import type { ChatCompletion, ChatCompletionChunk } from 'openai/resources/chat/completions';
import type { CompletionUsage } from 'openai/resources/completions';
import type { CreateEmbeddingResponse } from 'openai/resources/embeddings';
import type { Response, ResponseOutputItem, ResponseStreamEvent, ResponseUsage } from 'openai/resources/responses/responses';
import { bytesOf, countOf, exclusive } from './estimate.ts';
import { type EventKind, Meter } from './meter.ts';
import type { Units } from './types.ts';

// The tools that OpenAI runs, and charges for each call.
const CHARGED_TOOLS = new Set(['web_search_call', 'file_search_call', 'code_interpreter_call', 'image_generation_call']);
// Audio is no text, and an id is none either.
const NOT_OUTPUT = new Set(['data', 'id', 'type', 'role', 'index']);
const LAST_EVENTS = new Set(['response.completed', 'response.incomplete', 'response.failed']);

/** Counts the usage of a chat completion in exclusive classes. OpenAI counts the details within their totals. */
export function chatCompletionUnits(usage: CompletionUsage): Units {
  const { prompt_tokens_details: input, completion_tokens_details: output } = usage;
  return {
    ...exclusive(
      usage.prompt_tokens,
      {
        cached_input_tokens: input?.cached_tokens,
        cache_write_tokens: input?.cache_write_tokens,
        audio_input_tokens: input?.audio_tokens,
      },
      'input_tokens',
    ),
    ...exclusive(
      usage.completion_tokens,
      { reasoning_tokens: output?.reasoning_tokens, audio_output_tokens: output?.audio_tokens },
      'output_tokens',
    ),
  };
}

/** Counts the usage of a response in exclusive classes, and the calls of OpenAI's own tools in its output. */
export function responseUnits(usage: ResponseUsage, output: ResponseOutputItem[] = []): Units {
  const { input_tokens_details: input, output_tokens_details: details } = usage;
  return {
    ...exclusive(
      usage.input_tokens,
      { cached_input_tokens: input?.cached_tokens, cache_write_tokens: input?.cache_write_tokens },
      'input_tokens',
    ),
    ...exclusive(usage.output_tokens, { reasoning_tokens: details?.reasoning_tokens }, 'output_tokens'),
    tool_calls: output.filter(({ type }) => CHARGED_TOOLS.has(type)).length,
  };
}

/** Counts the usage of embeddings. */
export function embeddingUnits(usage: CreateEmbeddingResponse['usage']): Units {
  return { input_tokens: countOf(usage.prompt_tokens) };
}

/** Reads chat completions. */
export class ChatCompletionMeter extends Meter {
  readonly #usageAskedFor: boolean;

  /** `usageAskedFor`: whether the caller gets the chunk with the usage, which has no choices. */
  constructor(held: Units, usageAskedFor: boolean) {
    super(held);
    this.#usageAskedFor = usageAskedFor;
  }

  override response({ usage, choices }: Partial<ChatCompletion>): void {
    if (usage) this.reported = chatCompletionUnits(usage);
    this.bytes += textBytes(choices?.map(({ message }) => message));
  }

  override event({ usage, choices, error }: Partial<ChatCompletionChunk> & { error?: unknown }): EventKind {
    if (error) return 'error';
    if (usage) this.reported = chatCompletionUnits(usage);
    this.bytes += textBytes(choices?.map(({ delta }) => delta));
    return usage && choices?.length === 0 && !this.#usageAskedFor ? 'hidden' : 'passed';
  }
}

/** Reads responses. */
export class ResponseMeter extends Meter {
  override response({ usage, output = [] }: Partial<Response>): void {
    if (usage) this.reported = responseUnits(usage, output);
    this.bytes += textBytes(output);
  }

  override event(event: ResponseStreamEvent): EventKind {
    if (event.type === 'error') return 'error';
    if ('delta' in event && event.type !== 'response.audio.delta') this.bytes += textBytes(event.delta);
    if (event.type === 'response.output_item.done' && CHARGED_TOOLS.has(event.item.type)) this.toolCalls += 1;
    if (!('response' in event) || !LAST_EVENTS.has(event.type)) return 'passed';
    const { usage, output } = event.response;
    if (usage) this.reported = responseUnits(usage, output);
    return 'last';
  }
}

/** Reads embeddings. */
export class EmbeddingMeter extends Meter {
  override response({ usage, data }: Partial<CreateEmbeddingResponse>): void {
    if (usage) this.reported = embeddingUnits(usage);
    else if (data) this.reportedInput = this.heldInput;
  }

  override event(): EventKind {
    return 'passed';
  }
}

function textBytes(value: unknown): number {
  if (typeof value === 'string') return bytesOf(value);
  if (typeof value !== 'object' || value === null) return 0;
  return Object.entries(value).reduce((sum, [key, part]) => sum + (NOT_OUTPUT.has(key) ? 0 : textBytes(part)), 0);
}
