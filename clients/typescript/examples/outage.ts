import { AICredits, type Outage, Unavailable } from '@ai-credits/client';

const missed: Outage[] = [];
const credits = new AICredits({
  baseUrl: 'http://127.0.0.1:1', // Nothing listens here.
  apiKey: process.env.CREDITS_KEY!,
  deadlineMs: 1_000,
  onOutage: (outage) => void missed.push(outage),
});
const consumer = { kind: 'action', feature: 'assistant', user_id: 'ada' } as const;
try {
  await credits.workspace('demo').createDebit({ operation: 'text.generate', credits: '2.5', consumer });
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
}

const later = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });
for (const { method, path, order, idempotencyKey } of missed) {
  await later.request(method, path, { body: order, idempotencyKey });
}
console.log(`${missed.length} call was made later.`);
