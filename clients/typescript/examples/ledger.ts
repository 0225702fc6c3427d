import { AICredits } from '@ai-credits/client';

const credits = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });
const workspace = credits.workspace('demo');
for await (const entry of workspace.listLedgerEntries({ kind: 'debit' })) console.log(entry.at, entry.credits);
const { entries, next_cursor: cursor } = await workspace.listLedgerEntries({ limit: 10 }).page();
console.log(entries.length, cursor);
