// Tests that the cases pass a correct client, and fail each client with a defect.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readCases } from './cases.js';
import { drive } from './reference/driver.js';
import { startWire } from './wire.js';

/** Starts the wire for a test, and closes it after the test. */
async function wireOf(cases, context) {
  const wire = await startWire(cases);
  context.after(() => wire.close());
  return wire;
}

test('a correct client passes all cases', async (context) => {
  const wire = await wireOf(readCases(), context);
  assert.deepEqual([...(await drive(wire.url))], []);
  assert.deepEqual(wire.problems(), []);
});

/** The defects of the reference client, each with a case that it fails. */
const DEFECTS = {
  'makes a key per attempt': 'a lost response is retried',
  'makes one key for all calls': 'each call has a key of its own',
  'never retries': '500, 502, 503 and 504 are retried',
  'gives up after five attempts': 'the number of attempts has no limit',
  'waits forever': 'the deadline ends an attempt that hangs',
  'retries a 422': '422 lists the fields',
  'takes a 401 for success': '401 of API Gateway is refused',
  'takes half a response for success': 'half a response is retried',
  'ignores Retry-After': '429 is retried after Retry-After',
  'ignores dates in Retry-After': 'Retry-After may be an HTTP date',
  'drops the settlement': 'begin and finish hold and settle',
  'settles twice': 'a second finish sends nothing',
  'folds nothing': 'units that are not priced are folded',
  'folds for all models': 'the folding is of one operation and model',
  'hides estimates': 'an estimated finish is marked in the metadata',
  'follows redirects': 'a redirect is not followed',
  'swallows the outage': 'a hold that gets no response is an outage',
  'calls no hook': 'Retry-After beyond the deadline ends the call',
  'calls the hook for a GET': 'a GET that gets no response is no outage',
  'reads one page': 'the ledger is iterated page by page',
  'escapes no slash': 'path segments and queries are escaped',
  'enters a refused scope': 'a scope is not entered if the hold is refused',
};

/** Bounds the retries of a client that retries what it must not, in milliseconds. */
const MAX_DEADLINE = 3_000;
/** Bounds the wait of a client that waits forever, in milliseconds. */
const MAX_HANG = 50;

for (const [defect, name] of Object.entries(DEFECTS)) {
  test(`a client that ${defect} fails`, async (context) => {
    const cases = readCases().filter((it) => it.name === name);
    for (const it of cases) {
      it.client.deadline_ms = Math.min(it.client.deadline_ms, MAX_DEADLINE);
      it.wire = it.wire.map((step) => (step.hang ? { hang: MAX_HANG } : step));
    }
    const wire = await wireOf(cases, context);
    assert.deepEqual([...(await drive(wire.url, defect)).keys()], [name]);
    const problems = wire.problems();
    assert.ok(problems.length > 0 && problems.every((problem) => problem.startsWith(name)), problems.join('\n'));
  });
}

test('a case without a verdict fails the run', async (context) => {
  const [first, second] = readCases();
  const wire = await wireOf([first, second], context);
  assert.deepEqual(wire.problems(), ['the driver posted no verdict']);
  await fetch(`${wire.url}/_verdict/${first.slug}`, { method: 'POST', body: '{}' });
  assert.equal(wire.problems().at(-1), `${second.name}: the driver posted no verdict`);
});

test('a request after the verdict fails the run', async (context) => {
  const [first] = readCases();
  const wire = await wireOf([first], context);
  assert.deepEqual([...(await drive(wire.url))], []);
  await fetch(`${wire.url}/${first.slug}/v1/late`);
  assert.deepEqual(wire.problems(), ['a debit succeeds: 1 requests arrived after the verdict']);
});

test('a request that the client gave up may arrive after the verdict', async (context) => {
  const cases = readCases().filter(({ name }) => name === 'the deadline ends the attempts');
  const wire = await wireOf(cases, context);
  const [{ base_url, verdict_url }] = await (await fetch(`${wire.url}/_cases`)).json();
  const verdict = { outages: [{ idempotency_key: 'late' }] };
  await fetch(verdict_url, { method: 'POST', body: JSON.stringify(verdict) });
  const arrive = (key) => fetch(`${base_url}/v1/x`, { headers: { 'Idempotency-Key': key } });
  await assert.rejects(arrive('late'), { name: 'TypeError' });
  assert.ok(!wire.problems().some((problem) => problem.includes('after the verdict')));
  assert.equal((await arrive('other')).status, 503);
  assert.ok(wire.problems().some((problem) => problem.includes('after the verdict')));
});

test('a request of no case fails the run', async (context) => {
  const wire = await wireOf([], context);
  assert.equal((await fetch(`${wire.url}/v1/catalog`)).status, 404);
  assert.deepEqual(wire.problems(), ['GET /v1/catalog is the request of no case']);
});

test('a case that failed once fails the run', async (context) => {
  const wire = await wireOf(readCases().slice(0, 1), context);
  assert.equal((await drive(wire.url, 'makes one key for all calls')).size, 0);
  assert.equal((await drive(wire.url, 'returns nothing')).size, 1);
  assert.equal((await drive(wire.url)).size, 0);
  assert.notDeepEqual(wire.problems(), []);
});

test('only the last expected request may arrive any number of times', () => {
  const open = readCases().filter(({ requests }) => requests.slice(0, -1).some(({ times }) => times === 'any'));
  assert.deepEqual(open, []);
});

test('the run fails with the status of its command', () => {
  const wire = fileURLToPath(new URL('wire.js', import.meta.url));
  const status = (...command) => spawnSync(process.execPath, [wire, ...command], { encoding: 'utf8' }).status;
  const exits = (code) => [process.execPath, '-e', `process.exit(process.env.AI_CREDITS_WIRE ? ${code} : 9)`];
  assert.equal(status('--', ...exits(7)), 7);
  assert.equal(status('--', ...exits(0)), 1, 'no case was judged');
  assert.equal(status('--', '/no/such/command'), 127);
  assert.equal(status(), 2);
});
