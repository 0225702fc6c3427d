import { AICredits } from '@ai-credits/client';

const credits = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });
const call = await credits.workspace('demo').begin({
  operation: 'text.generate',
  model: 'standard',
  units: { input_tokens: 100, output_tokens: 500 },
  consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' },
});
// Here the model answers. If it fails, `await call.cancel()`.
const settled = await call.finish({ input_tokens: 80, output_tokens: 210, reasoning_tokens: 40 });
console.log(`It cost ${settled.captured} credits.`);
