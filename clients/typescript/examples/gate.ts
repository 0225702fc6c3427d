import { AICredits } from '@ai-credits/client';
import { chatCompletionUnits } from '@ai-credits/client/openai';
import OpenAI from 'openai';

const credits = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });
const openai = new OpenAI();

const order = {
  operation: 'text.generate',
  model: 'standard',
  units: { input_tokens: 100, output_tokens: 500 }, // The most that the call may use.
  consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' },
} as const;
const answer = await credits.workspace('demo').gate(order, async (call) => {
  const completion = await openai.chat.completions.create({
    model: 'gpt-6-astra',
    messages: [{ role: 'user', content: 'Say hello.' }],
    max_completion_tokens: 500,
  });
  if (completion.usage) call.use(chatCompletionUnits(completion.usage));
  return completion.choices[0]?.message.content;
});
console.log(answer);
