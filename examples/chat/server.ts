// A chat whose answers are paid with the credits of the asker's workspace. Node.js 22.18 or newer.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { AICredits, InsufficientCredits, Unavailable } from '@ai-credits/client';
import { withCredits } from '@ai-credits/client/openai';
import OpenAI from 'openai';

interface Question {
  workspace: string; // Your own session knows it, and the user. This example believes the browser.
  user: string;
  message: string;
}

const credits = new AICredits({ baseUrl: process.env.CREDITS_URL!, apiKey: process.env.CREDITS_KEY! });
const provider = new OpenAI();
const page = readFileSync(new URL('index.html', import.meta.url));

async function chat({ workspace, user, message }: Question, response: ServerResponse): Promise<void> {
  const openai = withCredits(provider, {
    workspace: credits.workspace(workspace),
    operation: 'text.generate',
    model: 'standard', // The model of the rate card.
    consumer: { kind: 'action', feature: 'chat', user_id: user },
  });
  // If the reader leaves, the model stops, and what it has said is charged.
  const reader = new AbortController();
  response.on('close', () => reader.abort());
  const stream = await openai.chat.completions.create(
    {
      model: process.env.CHAT_MODEL ?? 'gpt-6-astra',
      messages: [{ role: 'user', content: message }],
      max_completion_tokens: 1_000,
      stream: true,
    },
    { signal: reader.signal },
  );
  response.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8' });
  for await (const chunk of stream) response.write(chunk.choices[0]?.delta.content ?? '');
  response.end();
}

function refuse(error: unknown, response: ServerResponse): void {
  if (response.headersSent) return void response.destroy();
  const [status, body] =
    error instanceof InsufficientCredits ? [402, { error: error.prompt, top_up_url: error.topUpUrl }]
    : error instanceof Unavailable ? [503, { error: 'AI is not available at the moment. Try again soon.' }]
    : [502, { error: 'The model failed. You were not charged.' }];
  if (status === 502) console.error(String(error));
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}

const server = createServer(async (request: IncomingMessage, response) => {
  if (request.method !== 'POST') return response.writeHead(200, { 'Content-Type': 'text/html' }).end(page);
  await chat((await json(request)) as Question, response).catch((error) => refuse(error, response));
});
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  console.log(`The chat is at http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
