import type { Anthropic } from '@anthropic-ai/sdk';
import type { MessageCreateParams } from '@anthropic-ai/sdk/resources/messages/messages';
import { MessageMeter } from './anthropic-usage.ts';
import { NotGated } from './errors.ts';
import { inputTokensOf } from './estimate.ts';
import { type GateOptions, type GatedRequest, gated } from './gated-sdk.ts';

export { messageUnits } from './anthropic-usage.ts';

/** Whose credits pay the calls of Anthropic's client. */
export type AnthropicCreditsOptions = GateOptions<MessageCreateParams>;

// The POSTs that no model answers.
const FREE = /^\/v1\/(messages\/count_tokens|files)$/;

/**
 * Returns a copy of a client of Anthropic, whose messages are paid with credits, those of `beta` too. Other calls of a
 * model throw `NotGated`. The given client is not changed.
 */
export function withCredits<Client extends Anthropic>(client: Client, options: AnthropicCreditsOptions): Client {
  const gate = (path: string, body: object) => {
    if (path === '/v1/messages') return message(body as MessageCreateParams, options);
    if (FREE.test(path)) return undefined;
    throw new NotGated(
      `anthropic: POST ${path} is not gated by credits. Use the client that you gave to withCredits for it.`,
    );
  };
  return gated(client, { name: '@anthropic-ai/sdk', gate }, options);
}

function message(body: MessageCreateParams, options: AnthropicCreditsOptions): GatedRequest {
  const { messages, system, tools, output_config: config, max_tokens: tokens, model } = body;
  const units = options.estimate?.(body) ?? {
    input_tokens: inputTokensOf([messages, system], [tools, config]),
    output_tokens: tokens ?? options.defaultMaxTokens ?? 4_096,
  };
  return { model, units, meter: new MessageMeter(units), body };
}
