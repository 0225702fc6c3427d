import type { BetaIterationsUsage } from '@anthropic-ai/sdk/resources/beta/messages/messages';
import type { Message, MessageDeltaUsage, RawMessageStreamEvent, Usage } from '@anthropic-ai/sdk/resources/messages/messages';
import { bytesOf, countOf, exclusive } from './estimate.ts';
import { type EventKind, Meter } from './meter.ts';
import type { Units } from './types.ts';

type Reported = Partial<Usage | MessageDeltaUsage> & { iterations?: BetaIterationsUsage | null };

/**
 * Counts the usage of a message in exclusive classes. Anthropic counts tokens of the cache beside `input_tokens`, thinking
 * within `output_tokens`, and what a compaction or an advisor used in `iterations` alone.
 */
export function messageUnits(usage: Reported): Units {
  const beside = usage.iterations?.filter(({ type }) => type === 'compaction' || type === 'advisor_message') ?? [];
  const counted = [usage, ...beside];
  const sum = (field: 'input_tokens' | 'cache_read_input_tokens' | 'cache_creation_input_tokens' | 'output_tokens') =>
    counted.reduce((total, part) => total + countOf(part[field]), 0);
  const tools: Record<string, number> = { ...usage.server_tool_use };
  return {
    input_tokens: sum('input_tokens'),
    cached_input_tokens: sum('cache_read_input_tokens'),
    cache_write_tokens: sum('cache_creation_input_tokens'),
    ...exclusive(sum('output_tokens'), { reasoning_tokens: usage.output_tokens_details?.thinking_tokens }, 'output_tokens'),
    tool_calls: Object.values(tools).reduce((total, calls) => total + countOf(calls), 0),
  };
}

/** Reads messages. */
export class MessageMeter extends Meter {
  #usage: Reported = {};

  override response({ usage, content }: Partial<Message>): void {
    if (usage) this.reported = messageUnits(usage);
    for (const block of content ?? []) if (block.type === 'text') this.bytes += bytesOf(block.text);
  }

  override event(event: RawMessageStreamEvent | { type: 'error' }): EventKind {
    if (event.type === 'error') return 'error';
    if (event.type === 'message_start') this.#start(event.message.usage);
    if (event.type === 'content_block_delta') this.bytes += bytesOf(outputOf(event.delta));
    if (event.type === 'message_delta') {
      // The counts are cumulative. Those that are null stay as the start has reported them.
      const given = Object.entries(event.usage).filter(([, count]) => count !== null);
      this.#usage = { ...this.#usage, ...Object.fromEntries(given) };
      this.reported = messageUnits(this.#usage);
    }
    return event.type === 'message_stop' ? 'last' : 'passed';
  }

  #start(usage: Usage): void {
    this.#usage = usage;
    this.reportedInput = messageUnits({ ...usage, output_tokens: 0, server_tool_use: null });
  }
}

function outputOf(delta: object): string {
  const { text, thinking, partial_json: json } = delta as Record<string, string | undefined>;
  return text ?? thinking ?? json ?? '';
}
