// check.js node|fastapi|axum: starts a chat, and checks what answers cost: a whole one, one whose reader leaves, one of a model that fails,
// and one for which the credits don't suffice. Needs a stack at AI_CREDITS_LOCAL.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const kind = process.argv[2];
const { AI_CREDITS_LOCAL: base, AI_CREDITS_TOKEN: token } = process.env;

async function call(method, path, body) {
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json', 'Idempotency-Key': randomUUID() };
  const response = await fetch(`${base}/v1/workspaces/${path}`, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response.json();
}

async function workspaceWith(credits) {
  const workspace = `chat-${randomUUID()}`;
  await call('PUT', workspace, { name: 'Chat', plan: 'free', billing_email: 'billing@chat.example' });
  if (credits) await call('POST', `${workspace}/grants`, { credits, kind: 'prepaid', reason: 'check' });
  return workspace;
}

// The fake model reads its answer's plan from the message (clients/conformance/models.js).
function ask(chat, workspace, plan, signal) {
  const body = JSON.stringify({ workspace, user: 'ada', message: JSON.stringify(plan) });
  return fetch(`${chat}/chat`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body, signal });
}

/** Returns the debits of a workspace once nothing of it is held. */
async function charged(workspace) {
  for (let left = 1_000; (await call('GET', `${workspace}/balance`)).held !== '0'; left--) assert.ok(left, 'credits stay held');
  return (await call('GET', `${workspace}/ledger?kind=hold_settled`)).entries;
}

async function price(workspace, units) {
  const order = { operation: 'text.generate', model: 'standard', units, consumer: { kind: 'action', feature: 'chat', user_id: 'ada' } };
  return `-${(await call('POST', `${workspace}/quotes`, order)).credits}`;
}

async function check(chat) {
  assert.match(await (await fetch(chat)).text(), /<title>Chat/);

  const workspace = await workspaceWith('50');
  const whole = await ask(chat, workspace, { input: 10, output: 20 });
  const words = Array.from({ length: 20 }, (_, at) => `word${at + 1} `).join('');
  assert.deepEqual([whole.status, await whole.text()], [200, words]);
  const [entry] = await charged(workspace);
  assert.equal(entry.credits, await price(workspace, { input_tokens: 10, output_tokens: 20 }));

  const reader = new AbortController();
  const left = await ask(chat, workspace, { output: 500, stall_after: 100 }, reader.signal);
  await left.body.getReader().read();
  reader.abort();
  const entries = await charged(workspace);
  assert.equal(entries.length, 2, 'what the reader saw is charged');
  assert.deepEqual(entries[0].line_metadata, [{ line: 0, metadata: { usage: 'estimated' } }]);

  const failed = await ask(chat, workspace, { fail: { status: 500 } });
  assert.deepEqual([failed.status, (await charged(workspace)).length], [502, 2]);

  const refused = await ask(chat, await workspaceWith(), { output: 20 });
  const { error, top_up_url: address } = await refused.json();
  assert.equal(refused.status, 402);
  assert.match(`${error} ${address}`, /AI credits.*http/);
}

const environment = { ...process.env, CREDITS_URL: base, CREDITS_KEY: token, OPENAI_API_KEY: '' };
const server = spawn(fileURLToPath(new URL('run', import.meta.url)), [kind], {
  detached: true, // So that all its processes can be stopped at once.
  env: environment,
  stdio: ['ignore', 'pipe', 'inherit'],
});
try {
  let address;
  for await (const line of createInterface(server.stdout)) {
    address = /http:\/\/\S+/.exec(line)?.[0];
    if (address) break;
  }
  assert.ok(address, `the chat in ${kind} did not start`);
  await check(address);
  console.log(`chat in ${kind}: passed`);
} finally {
  process.kill(-server.pid);
}
