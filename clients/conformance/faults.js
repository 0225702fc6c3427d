// Plays the steps of the wire: what the server does with one request.
import { setTimeout as sleep } from 'node:timers/promises';

const SLOW_PARTS = 10;
const SLOW_PAUSE = 20;

/** Plays a step that comes after the whole request was read. Returns a problem of the client, or nothing. */
export async function play(step, response, base) {
  const { socket } = response;
  if (step.lose) socket.destroy();
  else if (step.reset) socket.resetAndDestroy();
  else if (step.hang) return hang(response, step.hang);
  else if (step.half) sendHalf(render(step.half, base), response);
  else if (step.slow) await sendSlowly(render(step.slow, base), response);
  else send(render(step, base), response);
}

/** Returns the time before which the client must not retry after a step; 0 if it may retry at once. */
export function retryTime(step, base, now) {
  const after = step.status && new Headers(render(step, base).headers).get('Retry-After');
  if (!after) return 0;
  return /^\d+$/.test(after) ? now + Number(after) * 1000 : Date.parse(after) || 0;
}

function render({ status, headers = {}, json, text }, base) {
  const body = Buffer.from(json === undefined ? text : JSON.stringify(json));
  const type = json === undefined ? 'text/plain' : 'application/json';
  const filled = Object.entries(headers).map(([name, value]) => [name, fill(value, base)]);
  return { status, body, headers: { 'Content-Type': type, ...Object.fromEntries(filled), 'Content-Length': body.length } };
}

function fill(value, base) {
  const date = (_, seconds) => new Date(Date.now() + Number(seconds) * 1000).toUTCString();
  return value.replace('{base}', base).replace(/\{date\+(\d+)\}/, date);
}

function send({ status, headers, body }, response) {
  response.writeHead(status, headers).end(body);
}

function sendHalf({ status, headers, body }, response) {
  response.writeHead(status, headers);
  response.write(body.subarray(0, body.length / 2), () => response.socket?.destroySoon());
}

async function sendSlowly({ status, headers, body }, response) {
  response.writeHead(status, headers);
  for (let part = 0; part < SLOW_PARTS && !response.destroyed; part++) {
    const [from, to] = [part, part + 1].map((at) => Math.floor((body.length * at) / SLOW_PARTS));
    response.write(body.subarray(from, to));
    await sleep(SLOW_PAUSE);
  }
  response.end();
}

/** Waits until the client gives up. Returns a problem if it does not within so many milliseconds. */
function hang(response, limit) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      resolve(`the client waited for more than ${limit} ms`);
      response.destroy();
    }, limit);
    response.once('close', () => {
      clearTimeout(timer);
      resolve(undefined);
    });
  });
}
