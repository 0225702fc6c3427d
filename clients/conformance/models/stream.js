// Sends an answer plain or as server-sent events, whole or with a fault.
import { once } from 'node:events';

/** Sends a plain answer. A plan that breaks or stalls its stream breaks or stalls this answer, too. */
export async function sendJson(response, status, value, { plan = {}, headers = {} } = {}) {
  if (plan.stall_after !== undefined) return stall(response);
  const body = JSON.stringify(value);
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers });
  if (plan.break_after === undefined) return response.end(body);
  response.write(body.slice(0, body.length / 2));
  return cut(response);
}

/**
 * Sends events until the plan's fault, or all of them.
 *
 * A fault comes after that many deltas of text, reasoning or arguments; with 0, before any event.
 */
export async function sendEvents(response, events, plan, { failure, end = '' }) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8', 'Cache-Control': 'no-cache' });
  response.flushHeaders();
  let deltas = 0;
  for (const event of events) {
    if (response.destroyed) return undefined;
    if (plan.break_after === deltas) return cut(response);
    if (plan.stall_after === deltas) return stall(response);
    if (plan.error_after === deltas) return response.end(encode(failure));
    if (event.isDelta) deltas += 1;
    if (!response.write(encode(event))) await drained(response);
  }
  return response.end(end);
}

function encode({ name, data }) {
  return `${name ? `event: ${name}\n` : ''}data: ${JSON.stringify(data)}\n\n`;
}

/** Waits until the client has read what was written, or has gone. */
async function drained(response) {
  const ended = new AbortController();
  const event = (name) => once(response, name, { signal: ended.signal });
  // The event that does not come is no longer waited for.
  await Promise.race([event('drain'), event('close')]).finally(() => ended.abort());
}

/** Sends what was written, then closes the connection in the middle of the response. */
function cut(response) {
  response.cutByServer = true;
  response.socket?.destroySoon();
}

/** Sends nothing more until the client closes the connection. */
async function stall(response) {
  if (!response.destroyed) await once(response, 'close');
}
