import Anthropic from '@anthropic-ai/sdk';
import { AICredits } from '@ai-credits/client';
import { withCredits } from '@ai-credits/client/anthropic';

const credits = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });

const anthropic = withCredits(new Anthropic(), {
  workspace: credits.workspace('demo'),
  operation: 'text.generate',
  model: 'standard',
  consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' },
});
const stream = anthropic.messages.stream({
  model: 'claude-sonnet-5-5',
  messages: [{ role: 'user', content: 'Say hello.' }],
  max_tokens: 500,
});
stream.on('text', (text) => process.stdout.write(text));
await stream.finalMessage();
