// Tests that the proxy forwards what it does not lose, and counts what it does.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { listen, stop } from './beside.js';
import { generator, startLossy } from './lossy.js';

const CALLS = 400;

/** Starts a target that echoes requests, and counts those that arrive. */
async function startTarget(context) {
  const target = { arrived: 0 };
  const server = createServer(async (request, response) => {
    target.arrived += 1;
    const body = await text(request);
    response.writeHead(201, { 'X-Path': request.url, 'X-Key': request.headers['idempotency-key'] ?? '' }).end(body);
  });
  target.url = await listen(server);
  context.after(() => stop(server));
  return target;
}

test('a tenth of the requests and of the responses is lost', async (context) => {
  const target = await startTarget(context);
  const proxy = await startLossy(target.url, 1);
  context.after(() => proxy.close());
  let answered = 0;
  for (let at = 0; at < CALLS; at++) {
    const call = { method: 'POST', body: `body ${at}`, headers: { 'Idempotency-Key': `key_${at}` } };
    const response = await fetch(`${proxy.url}/v1/x%2Fy?at=${at}`, call).catch(() => undefined);
    if (!response) continue;
    answered += 1;
    const seen = [response.status, response.headers.get('x-path'), response.headers.get('x-key'), await response.text()];
    assert.deepEqual(seen, [201, `/v1/x%2Fy?at=${at}`, `key_${at}`, `body ${at}`]);
  }
  const { requests, lostRequests, lostResponses } = proxy.counts;
  assert.equal(requests, CALLS);
  assert.equal(target.arrived, CALLS - lostRequests);
  assert.equal(answered, CALLS - lostRequests - lostResponses);
  for (const lost of [lostRequests, lostResponses]) assert.ok(lost > CALLS * 0.05 && lost < CALLS * 0.15, String(lost));
  assert.deepEqual(proxy.failures, []);
});

test('the same seed loses the same', () => {
  const numbers = (seed) => Array.from({ length: 5 }, generator(seed));
  assert.deepEqual(numbers(7), numbers(7));
  assert.notDeepEqual(numbers(7), numbers(8));
  assert.ok(numbers(7).every((number) => number >= 0 && number < 1));
});

/** Runs the proxy around a script that makes some calls. Returns its status and output. */
async function runLossy(target, calls) {
  const script = `for (let at = 0; at < ${calls}; at++) await fetch(process.env.AI_CREDITS_LOSSY).catch(() => {});`;
  const lossy = fileURLToPath(new URL('lossy.js', import.meta.url));
  const node = process.execPath;
  const child = spawn(node, [lossy, target, '--seed', '1', '--', node, '--input-type=module', '-e', script]);
  const [output, [status]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  return { status, output };
}

test('a run that loses something passes', async (context) => {
  const { status, output } = await runLossy((await startTarget(context)).url, 100);
  assert.equal(status, 0, output);
  assert.match(output, /seed 1\n.* of 100 requests, \d+ were lost, and the responses of \d+/);
});

test('a run that loses nothing fails', async (context) => {
  const { status, output } = await runLossy((await startTarget(context)).url, 0);
  assert.equal(status, 1);
  assert.match(output, /too few requests/);
});

test('a target that does not answer fails the run', async (context) => {
  const gone = createServer();
  const url = await listen(gone);
  await stop(gone);
  const { status, output } = await runLossy(url, 100);
  assert.equal(status, 1);
  assert.match(output, /ECONNREFUSED/);
});
