// Tests that clients/conformance does not have: aborts, errors of the caller's own functions, and parts of TypeScript.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { AICredits, Refused, Unavailable, type CallOrder } from '@ai-credits/client';
import { type Answer, serve } from './server.ts';

const ORDER: CallOrder = {
  operation: 'text.generate',
  units: { input_tokens: 100, output_tokens: 50 },
  consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' },
};
const HOLD = { hold_id: 'hold_1', credits: '1', captured: '0', remaining: '1', uncollected: '0', status: 'open' };
const held: Answer = { status: 201, json: HOLD };
const settled: Answer = { status: 200, json: { ...HOLD, status: 'settled' } };
const closed: Answer = { status: 409, json: { code: 'hold_closed', detail: 'The hold is closed.' } };
const isSettlement = ({ path }: { path: string }) => path.endsWith('/settle');

test('an abort during an attempt rejects with the reason', async (t) => {
  const controller = new AbortController();
  const { baseUrl } = await serve(t, () => {
    controller.abort(new Error('enough'));
    return 'nothing';
  });
  const workspace = new AICredits({ baseUrl, apiKey: 'key' }).workspace('acme');
  await assert.rejects(workspace.getBalance({ signal: controller.signal }), new Error('enough'));
});

test('an abort during a pause rejects with the reason', async (t) => {
  const controller = new AbortController();
  const { baseUrl, received } = await serve(t, () => ({ status: 503, json: {}, headers: { 'Retry-After': '20' } }));
  const workspace = new AICredits({ baseUrl, apiKey: 'key' }).workspace('acme');
  const balance = workspace.getBalance({ signal: controller.signal });
  // Long enough for the response to arrive. If it does not, the attempt is aborted, with the same error.
  setTimeout(() => controller.abort(new Error('enough')), 50);
  await assert.rejects(balance, new Error('enough'));
  assert.equal(received.length, 1);
});

test('an aborted signal sends nothing', async (t) => {
  const { baseUrl, received } = await serve(t, () => held);
  const workspace = new AICredits({ baseUrl, apiKey: 'key' }).workspace('acme');
  const signal = AbortSignal.abort(new Error('enough'));
  await assert.rejects(workspace.getBalance({ signal }), new Error('enough'));
  await assert.rejects(workspace.begin(ORDER, { signal }), new Error('enough'));
  assert.deepEqual(received, []);
});

test('an abort while a hold is placed releases the hold', async (t) => {
  const controller = new AbortController();
  const { baseUrl, received } = await serve(t, (request) => {
    if (isSettlement(request)) return settled;
    controller.abort(new Error('enough'));
    return held;
  });
  const credits = new AICredits({ baseUrl, apiKey: 'key' });
  await assert.rejects(credits.workspace('acme').begin(ORDER, { signal: controller.signal }), new Error('enough'));
  await credits.settled();
  assert.deepEqual(
    received.map(({ path, body }) => [path, isSettlement({ path }) ? body : null]),
    [
      ['/v1/workspaces/acme/holds', null],
      ['/v1/workspaces/acme/holds/hold_1/settle', {}],
    ],
  );
});

test('an abort of the work still settles', async (t) => {
  const controller = new AbortController();
  const { baseUrl, received } = await serve(t, (request) => (isSettlement(request) ? settled : held));
  const workspace = new AICredits({ baseUrl, apiKey: 'key' }).workspace('acme');
  const work = workspace.gate(
    ORDER,
    (call) => {
      call.use({ input_tokens: 100, output_tokens: 7 }, { estimated: true });
      controller.abort(new Error('enough'));
      controller.signal.throwIfAborted();
    },
    { signal: controller.signal },
  );
  await assert.rejects(work, new Error('enough'));
  assert.deepEqual(received.at(-1)?.body, {
    units: { input_tokens: 100, output_tokens: 7 },
    overrun: 'take_available',
    metadata: { usage: 'estimated' },
  });
});

test('a failed settlement is attached to the error of the work', async (t) => {
  const { baseUrl } = await serve(t, (request) => (isSettlement(request) ? closed : held));
  const workspace = new AICredits({ baseUrl, apiKey: 'key' }).workspace('acme');
  const work = workspace.gate(ORDER, () => {
    throw new Error('the model failed');
  });
  await assert.rejects(work, (error: Error & { suppressed?: unknown }) => {
    assert.equal(error.message, 'the model failed');
    return error.suppressed instanceof Refused && error.suppressed.code === 'hold_closed';
  });
});

test('disposing of a call settles it', async (t) => {
  const { baseUrl, received } = await serve(t, (request) => (isSettlement(request) ? settled : held));
  const workspace = new AICredits({ baseUrl, apiKey: 'key' }).workspace('acme');
  const call = await workspace.begin(ORDER);
  await call[Symbol.asyncDispose]();
  await call[Symbol.asyncDispose]();
  assert.deepEqual(received.slice(1).map(({ body }) => body), [{}]);
});

test('settled waits for settlements, and rejects if one fails', async (t) => {
  const [arrived, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<Answer>()];
  const { baseUrl } = await serve(t, (request) => {
    if (!isSettlement(request)) return held;
    arrived.resolve();
    return answer.promise;
  });
  const credits = new AICredits({ baseUrl, apiKey: 'key' });
  const call = await credits.workspace('acme').begin(ORDER);
  const finished = assert.rejects(call.finish({ input_tokens: 1 }), { code: 'hold_closed' });
  let isOver = false;
  const waited = assert.rejects(credits.settled(), { code: 'hold_closed' }).finally(() => (isOver = true));
  await arrived.promise;
  assert(!isOver);
  answer.resolve(closed);
  await Promise.all([finished, waited]);
  await credits.settled();
});

test('metadata without room for the mark is left out', async (t) => {
  const { baseUrl, received } = await serve(t, (request) => (isSettlement(request) ? settled : held));
  const workspace = new AICredits({ baseUrl, apiKey: 'key' }).workspace('acme');
  const metadata = { note: 'é'.repeat(250) };
  const call = await workspace.begin({ ...ORDER, metadata });
  await call.finish({ input_tokens: 1 }, { estimated: true });
  assert.deepEqual(received.at(-1)?.body.metadata, metadata);
});

test('an outage has its cause, and what the hook threw', async (t) => {
  const { baseUrl } = await serve(t, () => ({ status: 503, json: { code: 'contended' }, headers: { 'Retry-After': '60' } }));
  const onOutage = async () => {
    throw new Error('the hook failed');
  };
  const workspace = new AICredits({ baseUrl, apiKey: 'key', onOutage }).workspace('acme');
  await assert.rejects(workspace.begin(ORDER), (error: Unavailable) => {
    assert(error instanceof Unavailable);
    assert.equal((error.cause as Refused).code, 'contended');
    return (error.hookError as Error).message === 'the hook failed';
  });
});

test('an error of the function for the key ends the call', async (t) => {
  const { baseUrl, received } = await serve(t, () => held);
  const apiKey = async () => {
    throw new Error('no key');
  };
  await assert.rejects(new AICredits({ baseUrl, apiKey }).workspace('acme').getBalance(), new Error('no key'));
  assert.deepEqual(received, []);
});

test('a key that is no header ends the call', async (t) => {
  const { baseUrl, received } = await serve(t, () => held);
  await assert.rejects(new AICredits({ baseUrl, apiKey: 'key\nkey' }).workspace('acme').getBalance(), TypeError);
  assert.deepEqual(received, []);
});

test('an id that a URL would drop is refused', async () => {
  const credits = new AICredits({ baseUrl: 'http://127.0.0.1:9', apiKey: 'key' });
  for (const id of ['', '.', '..']) assert.throws(() => credits.workspace(id).getBalance(), /is no id/);
});

test('a listing without the named field is an error', async (t) => {
  const { baseUrl } = await serve(t, () => ({ status: 200, json: { payments: [], next_cursor: null } }));
  const listing = new AICredits({ baseUrl, apiKey: 'key' }).list('/v1/workspaces/acme/payments', 'invoices');
  await assert.rejects(Array.fromAsync(listing), /no list "invoices"/);
});

test('times without an end are taken as such', async (t) => {
  // Longer than a timer that fires at once.
  const { baseUrl } = await serve(t, () => new Promise((resolve) => setTimeout(resolve, 20, settled)));
  const times = { deadlineMs: Infinity, attemptTimeoutMs: Infinity };
  const workspace = new AICredits({ baseUrl, apiKey: 'key', ...times }).workspace('acme');
  assert.equal((await workspace.getHold('hold_1')).status, 'settled');
});

test('the client names its version', async (t) => {
  const { version } = JSON.parse(readFileSync(new URL(import.meta.resolve('@ai-credits/client/package.json')), 'utf8'));
  const { baseUrl, received } = await serve(t, () => settled);
  await new AICredits({ baseUrl, apiKey: 'key' }).workspace('acme').getBalance();
  assert.equal(received[0]?.headers['user-agent'], `ai-credits-typescript/${version}`);
});
