// A stand-in for a model: a server on this machine that streams words as server-sent events, in the form of OpenAI's chat
// completions. Each chunk has one token.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';

export interface Model {
  url: string;
  close(): void;
}

// Starts a model whose answers have `tokens` tokens, unless the request's `max_tokens` are fewer.
export async function startModel(tokens: number): Promise<Model> {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const length = Math.min(JSON.parse(body).max_tokens, tokens);
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    const send = (event: object) => response.write(`data: ${JSON.stringify(event)}\n\n`);
    for (let token = 1; token <= length && !response.destroyed; token++) {
      send({ choices: [{ delta: { content: `word${token} ` } }], usage: null });
      if (token % 50 === 0) await setTimeout(1);
    }
    send({ choices: [], usage: { completion_tokens: length } });
    response.end('data: [DONE]\n\n');
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${port}/v1/chat/completions`, close };
}
