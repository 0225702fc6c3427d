import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';

/** Returns a response with events, as a stream of a model sends them. */
export function eventStream(events: { type: string }[]): Response {
  const text = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join('');
  return new Response(text, { headers: { 'Content-Type': 'text/event-stream' } });
}

/** A request that a server received. */
export interface Received {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  body: any;
}

/** A response of a server: a status and JSON, or nothing at all. */
export type Answer = { status: number; json: unknown; headers?: Record<string, string> } | 'nothing';

/** Starts a server on a free port for the time of a test. It answers what `answer` returns. */
export async function serve(test: TestContext, answer: (request: Received) => Answer | Promise<Answer>) {
  const received: Received[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    const { method = '', url = '', headers } = request;
    const seen = { method, path: url, headers, body: text ? JSON.parse(text) : undefined };
    received.push(seen);
    const answered = await answer(seen);
    if (answered === 'nothing') return;
    response.writeHead(answered.status, { 'Content-Type': 'application/json', ...answered.headers });
    response.end(JSON.stringify(answered.json));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  test.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received };
}
