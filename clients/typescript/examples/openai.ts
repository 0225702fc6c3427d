import { AICredits } from '@ai-credits/client';
import { withCredits } from '@ai-credits/client/openai';
import OpenAI from 'openai';

const credits = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });

const openai = withCredits(new OpenAI(), {
  workspace: credits.workspace('demo'),
  operation: 'text.generate',
  model: 'standard',
  consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' },
});
const stream = await openai.chat.completions.create({
  model: 'gpt-6-astra',
  messages: [{ role: 'user', content: 'Say hello.' }],
  max_completion_tokens: 500,
  stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? '');
