import { openai } from '@ai-sdk/openai';
import { AICredits } from '@ai-credits/client';
import { creditsMiddleware } from '@ai-credits/client/ai-sdk';
import { streamText, wrapLanguageModel } from 'ai';

const credits = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });

const model = wrapLanguageModel({
  model: openai('gpt-6-astra'),
  middleware: creditsMiddleware({
    workspace: credits.workspace('demo'),
    operation: 'text.generate',
    model: 'standard',
    consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' },
  }),
});
const { textStream } = streamText({ model, prompt: 'Say hello.', maxOutputTokens: 500 });
for await (const text of textStream) process.stdout.write(text);
