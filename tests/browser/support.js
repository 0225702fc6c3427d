// What the tests of the settings page share: calls to a running `cargo local demo` at AI_CREDITS_LOCAL, and a page in
// Debian's chromium that must end without an error on the console and without a serious finding of axe.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before } from 'node:test';
import { chromium } from 'playwright-core';

export const base = process.env.AI_CREDITS_LOCAL;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export let browser;
if (process.env.NODE_TEST_CONTEXT) {
  before(async () => { browser = await launch(); });
  after(() => browser.close());
}

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
}

/** The id of a test's workspace: each run has its own, so that a run can be repeated on the same stack. */
const RUN = Date.now().toString(36);
export const id = workspace => (['demo', '*'].includes(workspace) ? workspace : `${workspace}-${RUN}`);

/** Calls the local stack's own controls. */
export async function local(path, body = {}) {
  const response = await fetch(base + path, { method: 'POST', body: JSON.stringify(body) });
  assert.equal(response.status, 200, path);
  return response.json();
}

export async function tokenFor(workspace, scope = 'credits:read credits:manage') {
  return (await local('/_local/tokens', { workspace: id(workspace), scope })).token;
}

/** Calls the API as an app's backend does. The path begins with the test's workspace. */
export async function hub(method, path, body, key = crypto.randomUUID()) {
  const token = await tokenFor('*', 'credits:spend credits:read credits:manage');
  const [workspace, ...rest] = path.split('/');
  const response = await fetch(`${base}/v1/workspaces/${[id(workspace), ...rest].join('/')}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'idempotency-key': key },
    body: body && JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

const ACTION = { kind: 'action', feature: 'assistant', user_id: 'ada' };

export function spend(workspace, credits, order = {}) {
  return hub('POST', `${workspace}/debits`, { operation: 'text.generate', credits, consumer: ACTION, ...order });
}

export async function newWorkspace(workspace, { name = 'Acme', plan = 'team' } = {}) {
  await hub('PUT', workspace, { name, plan, billing_email: 'billing@acme.example' });
}

export async function grant(workspace, credits) {
  assert.equal((await hub('POST', `${workspace}/grants`, { credits, kind: 'prepaid', reason: 'test' })).status, 201);
}

/** Buys a pack, which also stores the payment method. */
export async function buy(workspace, pack = 'pack_1k') {
  const { body } = await hub('POST', `${workspace}/top-ups`, { pack });
  await local(`/_local/checkouts/${body.checkout_id}/pay`, { outcome: 'succeeded' });
}

export async function subscribe(workspace, tier = 'tier_2k') {
  await buy(workspace);
  assert.equal((await hub('PUT', `${workspace}/subscription`, { tier })).body.status, 'active');
}

/** Starts a run that fails for insufficient credits. */
export async function blockRun(workspace, workflow = 'nightly') {
  const run = (await hub('POST', `${workspace}/runs`, { workflow_id: workflow, trigger: 'scheduled' })).body;
  const consumer = { kind: 'workflow_step', workflow_id: workflow, run_id: run.run_id, step_id: 'write' };
  assert.equal((await spend(workspace, '1000000', { consumer })).status, 402);
}

/** Opens a tab of a workspace's page. `options` are those of the browser's context, and `scope`, `fragment`, `routes`. */
export async function open(workspace, { scope, fragment = '', path = '/overview', routes = {}, clock, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  page.setDefaultNavigationTimeout(20_000);
  if (clock) await page.clock.install();
  const wrong = watch(page);
  for (const [url, answer] of Object.entries(routes)) await page.route(url, answer);
  await page.goto(`${base}/settings/ai-credits#${path}?token=${await tokenFor(workspace, scope)}${fragment}`);
  await page.getByRole('navigation', { name: 'AI Credits' }).waitFor();
  return { page, context, wrong };
}

/** Collects what is wrong with a page: errors on the console, and requests to other origins. */
export function watch(page) {
  const wrong = [];
  // The browser logs each answer from 400 on. The tests look at those that matter.
  page.on('console', message => ['error', 'warning'].includes(message.type()) && !message.text().startsWith('Failed to load resource') && wrong.push(message.text()));
  page.on('pageerror', error => wrong.push(error.message));
  page.on('request', request => new URL(request.url()).origin === base || request.url().startsWith('data:') || wrong.push(request.url()));
  return wrong;
}

/** Runs `act` on a tab of a workspace's page, and checks that nothing went wrong. */
export async function onPage(workspace, options, act) {
  const { page, context, wrong } = await open(workspace, options);
  await act(page);
  await checkAxe(page);
  assert.deepEqual(wrong, []);
  await context.close();
}

/** Checks a page with axe. The debugger injects it, because the page's content security policy does not apply to that. */
export async function checkAxe(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(node => node.html)]), []);
}

/** Answers with an error of the API. */
export const failing = (status = 503, body = { code: 'unavailable', detail: 'raw text of the API' }) => route =>
  route.fulfill({ status, contentType: 'application/problem+json', body: JSON.stringify(body) });

/** Answers with JSON. */
export const answering = body => route => route.fulfill({ status: 200, contentType: 'application/json', body: JSON.stringify(body) });

export const figure = page => page.locator('.figure strong');
export const section = (page, name) => page.locator('section').and(page.getByRole('region', { name, exact: true }));

/** Pays in the checkout's tab, whatever its page looks like. */
export async function pay(checkout) {
  const id = /cs_[0-9a-f]+/.exec(checkout.url())[0];
  await local(`/_local/checkouts/${id}/pay`, { outcome: 'succeeded' });
  await checkout.close();
}

/** Presses Tab until an element has the focus, as a person without a mouse does. */
export async function tabTo(page, locator) {
  for (let step = 0; step < 150; step += 1) {
    if (await locator.evaluate(element => element === document.activeElement)) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`Tab does not reach ${locator}`);
}
