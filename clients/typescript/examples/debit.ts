import { AICredits } from '@ai-credits/client';

const credits = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });
const debit = await credits.workspace('demo').createDebit({
  operation: 'text.generate',
  units: { input_tokens: 1_200, output_tokens: 800 },
  consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' },
});
console.log(`It cost ${debit.credits} credits.`);
