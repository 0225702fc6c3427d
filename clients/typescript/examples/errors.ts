import { AICredits, InsufficientCredits, Refused, Unavailable } from '@ai-credits/client';

const credits = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });
try {
  await credits.workspace('demo').createDebit({
    operation: 'text.generate',
    units: { input_tokens: 900_000_000 },
    consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' },
  });
} catch (error) {
  if (error instanceof InsufficientCredits) console.log(error.prompt, error.topUpUrl);
  else if (error instanceof Unavailable) console.log(`try again with the key ${error.idempotencyKey}`);
  else if (error instanceof Refused) console.log(error.status, error.code, error.errors);
  else throw error;
}
