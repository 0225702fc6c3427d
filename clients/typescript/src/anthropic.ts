import type { Anthropic } from '@anthropic-ai/sdk';
import type { MessageCreateParams } from '@anthropic-ai/sdk/resources/messages/messages';
import { MessageMeter } from './anthropic-usage.ts';
import { NotGated } from './errors.ts';
import { inputTokensOf } from './estimate.ts';
import { type GateOptions, type GatedRequest, gated } from './gated-sdk.ts';

export { messageUnits } from './anthropic-usage.ts';

/** The workspace that pays the calls of Anthropic's client, and their prices. */
export type AnthropicCreditsOptions = GateOptions<MessageCreateParams>;

// POSTs that call no model.
const FREE = /^\/v1\/(messages\/count_tokens|files)$/;

/**
 * Returns a copy of a client of Anthropic that pays messages with credits, also those of `beta`. Other calls of a model
 * throw `NotGated`. The given client does not change.
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
