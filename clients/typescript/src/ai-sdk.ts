import type { EmbeddingModelMiddleware, LanguageModelMiddleware } from 'ai' with { 'resolution-mode': 'import' };
import { type Call, attach } from './call.ts';
import { bytesOf, countOf, exclusive, inputTokensOf } from './estimate.ts';
import { type GateOptions, hold } from './gated-sdk.ts';
import { type Ending, type EventKind, Meter } from './meter.ts';
import type { Units } from './types.ts';

type Generate = Parameters<NonNullable<LanguageModelMiddleware['wrapGenerate']>>[0];
type Generated = Awaited<ReturnType<Generate['doGenerate']>>;
type Streamed = Awaited<ReturnType<Generate['doStream']>>;
type Part = Streamed['stream'] extends ReadableStream<infer P> ? P : never;
type Embed = Parameters<NonNullable<EmbeddingModelMiddleware['wrapEmbed']>>[0];

/** The usage of a model as the AI SDK's providers report it. */
export type LanguageModelUsage = Generated['usage'];

/** The workspace that pays the calls of a language model, and their prices. */
export type LanguageModelCreditsOptions = GateOptions<Generate['params']>;

/** The workspace that pays the calls of an embedding model, and their prices. */
export type EmbeddingModelCreditsOptions = GateOptions<Embed['params']>;

/** Returns a middleware for `wrapLanguageModel` that pays each call of the model with credits. */
export function creditsMiddleware(options: LanguageModelCreditsOptions): LanguageModelMiddleware {
  return {
    specificationVersion: 'v4',
    wrapGenerate: async ({ doGenerate, params, model }) => {
      const { call, meter } = await begin(params, model.modelId, options);
      return settled(call, meter, doGenerate);
    },
    wrapStream: async ({ doStream, params, model }) => {
      const { call, meter } = await begin(params, model.modelId, options);
      // An abort may come while nobody reads the stream.
      const stop = () => void settle('stopped').catch(() => {});
      params.abortSignal?.addEventListener('abort', stop, { once: true });
      const settle = (ending: Ending) => {
        params.abortSignal?.removeEventListener('abort', stop);
        return meter.settle(call, ending);
      };
      const result = await doStream().then(undefined, (error: unknown) => failed(error, settle));
      const source = new MeteredParts(result.stream.getReader(), meter, settle);
      return { ...result, stream: new ReadableStream(source, { highWaterMark: 0 }) };
    },
  };
}

/** Returns a middleware for `wrapEmbeddingModel` that pays each call of the model with credits. */
export function embeddingCreditsMiddleware(options: EmbeddingModelCreditsOptions): EmbeddingModelMiddleware {
  return {
    specificationVersion: 'v4',
    wrapEmbed: async ({ doEmbed, params, model }) => {
      const units = options.estimate?.(params) ?? { input_tokens: inputTokensOf(params.values, []) };
      const call = await hold(options, { model: model.modelId, units }, params.abortSignal);
      return settled(call, new EmbeddingMeter(units), doEmbed);
    },
  };
}

/** Counts the usage of a language model in exclusive classes, and the calls of the tools that its provider ran. */
export function languageModelUnits({ inputTokens: input, outputTokens: output }: LanguageModelUsage, toolCalls = 0): Units {
  const read = input.total ?? countOf(input.noCache) + countOf(input.cacheRead) + countOf(input.cacheWrite);
  const written = output.total ?? countOf(output.text) + countOf(output.reasoning);
  return {
    ...exclusive(read, { cached_input_tokens: input.cacheRead, cache_write_tokens: input.cacheWrite }, 'input_tokens'),
    ...exclusive(written, { reasoning_tokens: output.reasoning }, 'output_tokens'),
    tool_calls: toolCalls,
  };
}

async function begin(params: Generate['params'], model: string, options: LanguageModelCreditsOptions) {
  const { prompt, tools, responseFormat, maxOutputTokens = options.defaultMaxTokens ?? 4_096 } = params;
  const units = options.estimate?.(params) ?? {
    input_tokens: inputTokensOf(prompt, [tools, responseFormat]),
    output_tokens: maxOutputTokens,
  };
  const call = await hold(options, { model, units }, params.abortSignal);
  return { call, meter: new LanguageModelMeter(units) };
}

/** Runs a call of a model, and settles it with what its result used. */
async function settled<Result>(call: Call, meter: Meter, run: () => PromiseLike<Result>): Promise<Result> {
  const settle = (ending: Ending) => meter.settle(call, ending);
  const result = await run().then(undefined, (error: unknown) => failed(error, settle));
  meter.response(result);
  await settle('complete');
  return result;
}

async function failed(error: unknown, settle: (ending: Ending) => Promise<void>): Promise<never> {
  await settle('failed').catch((settlement: unknown) => attach(error, settlement));
  throw error;
}

class LanguageModelMeter extends Meter {
  override response({ usage, content }: Generated): void {
    for (const part of content) this.#read(part);
    this.#report(usage);
  }

  override event(part: Part): EventKind {
    if (part.type === 'finish') this.#report(part.usage);
    else if ('delta' in part) this.bytes += bytesOf(part.delta);
    else if (part.type === 'tool-call') this.#readTool(part);
    return part.type === 'finish' ? 'last' : part.type === 'error' ? 'error' : 'passed';
  }

  #read(part: Generated['content'][number]): void {
    if (part.type === 'text' || part.type === 'reasoning') this.bytes += bytesOf(part.text);
    if (part.type !== 'tool-call') return;
    this.bytes += bytesOf(part.input);
    this.#readTool(part);
  }

  // A dynamic tool is one of an MCP server, for which the provider does not charge.
  #readTool(call: { providerExecuted?: boolean; dynamic?: boolean }): void {
    if (call.providerExecuted && !call.dynamic) this.toolCalls += 1;
  }

  #report(usage: LanguageModelUsage): void {
    const { inputTokens, outputTokens } = usage;
    const isKnown = [inputTokens.total, inputTokens.noCache, outputTokens.total, outputTokens.text].some((count) => count != null);
    if (isKnown) this.reported = languageModelUnits(usage, this.toolCalls);
  }
}

class EmbeddingMeter extends Meter {
  override response({ usage }: Awaited<ReturnType<Embed['doEmbed']>>): void {
    if (usage) this.reported = { input_tokens: countOf(usage.tokens) };
    else this.reportedInput = this.heldInput;
  }

  override event(): EventKind {
    return 'passed';
  }
}

/** A stream of parts that is settled before its end reaches the caller. */
class MeteredParts implements UnderlyingDefaultSource<Part> {
  readonly #reader: ReadableStreamDefaultReader<Part>;
  readonly #meter: Meter;
  readonly #settle: (ending: Ending) => Promise<void>;

  constructor(reader: ReadableStreamDefaultReader<Part>, meter: Meter, settle: (ending: Ending) => Promise<void>) {
    this.#reader = reader;
    this.#meter = meter;
    this.#settle = settle;
  }

  async pull(controller: ReadableStreamDefaultController<Part>): Promise<void> {
    try {
      const { done, value } = await this.#reader.read();
      const kind = done ? 'last' : this.#meter.event(value);
      if (kind === 'last') await this.#settle('complete');
      if (kind === 'error') await this.#settle('failed');
      if (done) controller.close();
      else controller.enqueue(value);
    } catch (error) {
      await failed(error, this.#settle);
    }
  }

  async cancel(reason: unknown): Promise<void> {
    await this.#reader.cancel(reason).catch(() => {});
    await this.#settle('stopped');
  }
}
