// Tests of the settings page in Debian's chromium, on a running `cargo local demo` at AI_CREDITS_LOCAL. Every page must
// end without an error on the console, and without a serious finding of axe.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';

const base = process.env.AI_CREDITS_LOCAL;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const pictures = process.env.AI_CREDITS_PICTURES;
let browser;

before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
});
after(() => browser.close());

async function local(path, body) {
  const response = await fetch(base + path, { method: 'POST', body: body && JSON.stringify(body) });
  assert.equal(response.status, 200, path);
  return response.json();
}

/** Calls the API as the hub does. */
async function hub(method, path, body, key = crypto.randomUUID()) {
  const { token } = await local('/_local/tokens', { workspace: '*', scope: 'credits:spend credits:read credits:manage' });
  const response = await fetch(`${base}/v1/workspaces/${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'idempotency-key': key },
    body: body && JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

const spend = (workspace, credits) => hub('POST', `${workspace}/debits`, {
  operation: 'text.generate', credits, consumer: { kind: 'action', feature: 'assistant', user_id: 'ada' },
});

async function newWorkspace(workspace, name = 'Acme') {
  await hub('PUT', workspace, { name, plan: 'team', billing_email: 'billing@acme.example' });
}

/** Opens the page of a workspace, runs `act` on it, and checks that no errors occurred. */
async function onPage(workspace, { clock, ...options }, act) {
  const { token } = await local('/_local/tokens', { workspace, scope: options.scope ?? 'credits:read credits:manage' });
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  if (clock) await page.clock.install();
  const wrong = [];
  let bytes = 0;
  page.on('console', message => ['error', 'warning'].includes(message.type()) && wrong.push(message.text()));
  page.on('pageerror', error => wrong.push(error.message));
  page.on('request', request => new URL(request.url()).origin === base || request.url().startsWith('data:') || wrong.push(request.url()));
  page.on('response', async response => {
    if (response.url().includes('/settings/')) bytes += (await response.body().catch(() => '')).length;
  });
  await page.goto(`${base}/settings/ai-credits#token=${token}${options.fragment ?? ''}`);
  await page.getByRole('heading', { name: 'Balance', exact: true }).waitFor();
  await act(page, () => bytes);
  // The debugger injects axe, because the page's content security policy does not apply to it.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(node => node.html)]), []);
  assert.deepEqual(wrong, []);
  await context.close();
}

const figure = page => page.locator('.figure strong');

test('m09_the_page_shows_balance_month_breakdown_history_and_ledger', async () => {
  await onPage('demo', {}, async (page, bytes) => {
    await page.getByRole('cell', { name: 'lead-enrichment' }).first().waitFor();
    await page.getByRole('heading', { name: 'The right size' }).waitFor();
    const debits = page.getByRole('row').filter({ hasText: 'Debit' });
    await debits.nth(24).waitFor();
    assert.equal(await debits.count(), 25);
    await page.locator('svg.chart path.now').waitFor({ state: 'attached' });
    assert.ok(await page.locator('svg.chart path.now').getAttribute('d'));
    assert.equal(await page.evaluate(() => location.hash), '');
    assert.ok(bytes() > 10_000 && bytes() < 100_000, `${bytes()} bytes`);
  });
});

test('m09_the_breakdown_can_be_switched', async () => {
  // The month may have begun minutes ago, so the demo's own history may have no use in it yet.
  const step = { kind: 'workflow_step', workflow_id: 'lead-enrichment', run_id: 'run-1', step_id: 'enrich' };
  for (const [operation, consumer] of [
    ['record.enrich', step],
    ['text.extract', { kind: 'action', feature: 'tidy', user_id: 'chloe' }],
  ]) {
    const spent = await hub('POST', 'demo/debits', { operation, credits: '1', consumer });
    assert.equal(spent.status, 201, JSON.stringify(spent.body));
  }
  await onPage('demo', {}, async page => {
    await page.getByRole('cell', { name: 'lead-enrichment' }).first().waitFor();
    await page.getByRole('radio', { name: 'Operation' }).focus();
    await page.keyboard.press('Space');
    const usage = page.getByRole('region', { name: 'Usage by operation' });
    await usage.getByRole('cell', { name: 'record.enrich' }).waitFor();
    await page.getByText('User', { exact: true }).click();
    await page.getByRole('region', { name: 'Usage by user' }).getByRole('cell', { name: 'chloe' }).waitFor();
    await page.getByText('Day by day').click();
    await page.getByRole('region', { name: 'Usage by day' }).waitFor();
  });
});

test('m09_a_quiet_page_makes_few_calls_and_a_hidden_one_none', async () => {
  await newWorkspace('quiet');
  await onPage('quiet', { clock: true }, async page => {
    let calls = 0;
    page.on('request', request => { calls += request.url().includes('/v1/'); });
    const passes = async (minutes, hidden) => {
      await page.evaluate(hidden => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
      calls = 0;
      for (let step = 0; step < minutes * 4; step += 1) {
        await page.clock.runFor(15_000);
        // The answer comes in real time, and sets the next timer.
        await new Promise(done => setTimeout(done, 50));
      }
      return calls;
    };
    const quiet = await passes(60, false);
    assert.ok(quiet > 20 && quiet <= 60, `${quiet} calls in an hour`);
    assert.equal(await passes(10, true), 0);
    const again = page.waitForRequest(request => request.url().endsWith('/balance'), { timeout: 1000 });
    await page.evaluate(() => {
      Object.defineProperty(document, 'hidden', { value: false, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    });
    await again;
  });
});

test('m03_what_is_spent_and_topped_up_shows_without_a_reload', async () => {
  await newWorkspace('live');
  await onPage('live', {}, async page => {
    assert.equal(await figure(page).textContent(), '0');
    const opened = page.context().waitForEvent('page');
    await page.getByRole('button', { name: 'Buy 1,000 credits' }).click();
    const checkout = await opened;
    await checkout.getByRole('button', { name: 'Pay' }).click();
    await checkout.getByText('the webhook answered 200').waitFor();
    await checkout.close();
    await figure(page).getByText('1,000', { exact: true }).waitFor();
    await page.getByRole('paragraph').filter({ hasText: '1,000 credits were added.' }).waitFor();
    await page.getByRole('cell', { name: 'Top up' }).waitFor();
    assert.equal((await spend('live', '2.5')).status, 201);
    await figure(page).getByText('997.5', { exact: true }).waitFor();
    await page.getByRole('row').filter({ hasText: 'No workflow' }).getByText('2.5').waitFor();
    const file = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Download as CSV' }).click();
    const rows = readFileSync(await (await file).path(), 'utf8').trim().split('\r\n');
    assert.equal(rows.length, 3);
    await page.getByRole('combobox', { name: 'Kind' }).selectOption('top_up');
    await page.getByRole('region', { name: 'Ledger' }).getByRole('cell', { name: 'Debit' }).waitFor({ state: 'detached' });
  });
});

test('m15_the_alert_is_saved_and_what_is_wrong_with_it_is_said', async () => {
  await newWorkspace('alerted');
  await onPage('alerted', {}, async page => {
    const alert = page.getByRole('region', { name: 'Low-balance alert' });
    await alert.getByRole('checkbox', { name: 'Send an e-mail when the balance is low' }).check();
    await alert.getByRole('textbox', { name: 'At or below how many credits' }).fill('1e9');
    await alert.getByRole('textbox', { name: 'To whom' }).fill('ada@acme.example\nben@acme.example');
    await alert.getByRole('button', { name: 'Save' }).click();
    assert.equal((await hub('GET', 'alerted/alerts')).body.low_balance.enabled, false);
    await alert.getByRole('textbox', { name: 'At or below how many credits' }).fill('1,250.50');
    await alert.getByRole('button', { name: 'Save' }).click();
    await alert.getByText('Saved.').waitFor();
  });
  const { low_balance } = (await hub('GET', 'alerted/alerts')).body;
  assert.deepEqual(low_balance, { enabled: true, threshold: '1250.5', recipients: ['ada@acme.example', 'ben@acme.example'] });
});

test('m05_automatic_top_up_is_set_and_its_packs_show_in_the_balance', async () => {
  await newWorkspace('automatic');
  const bought = (await hub('POST', 'automatic/top-ups', { pack: 'pack_1k' })).body;
  await local(`/_local/checkouts/${bought.checkout_id}/pay`, { outcome: 'succeeded' });
  await onPage('automatic', {}, async page => {
    const automatic = page.getByRole('region', { name: 'Automatic top-up' });
    await automatic.getByRole('checkbox', { name: 'Buy a pack with the stored card' }).check();
    await automatic.getByRole('textbox', { name: 'At or below how many credits' }).fill('1,000');
    await automatic.getByRole('button', { name: 'Save' }).click();
    await automatic.getByText('must be below the pack').waitFor();
    await automatic.getByRole('textbox', { name: 'At or below how many credits' }).fill('900');
    await automatic.getByRole('textbox', { name: 'At most how many a month' }).fill('2');
    await automatic.getByRole('button', { name: 'Save' }).click();
    await automatic.getByText('Saved.').waitFor();
    assert.equal((await spend('automatic', '200')).status, 201);
    await page.getByRole('region', { name: 'Balance', exact: true }).getByText('1,800', { exact: true }).first().waitFor();
  });
  const kept = (await hub('GET', 'automatic/auto-top-up')).body;
  assert.deepEqual([kept.threshold, kept.pack, kept.monthly_limit, kept.bought_this_month.top_ups], ['900', 'pack_1k', 2, 1]);
});

test('m06_a_tier_is_subscribed_to_and_cancelled', async () => {
  await newWorkspace('tiered');
  await onPage('tiered', {}, async page => {
    await page.getByRole('button', { name: 'Subscribe to 2,000 credits a month' }).click();
    const opened = page.context().waitForEvent('page');
    await page.getByRole('dialog').getByRole('button', { name: 'Subscribe' }).click();
    const checkout = await opened;
    await checkout.getByRole('button', { name: 'Pay' }).click();
    await checkout.getByText('the webhook answered 200').waitFor();
    await checkout.close();
    await figure(page).getByText('2,000', { exact: true }).waitFor();
    await page.getByText('Renews on').waitFor();
    await page.getByRole('button', { name: 'Cancel the subscription' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel the subscription' }).click();
    await page.getByText('The subscription ends on').waitFor();
  });
});

test('m11_at_zero_the_page_prompts_and_m14_shows_what_was_blocked', async () => {
  await newWorkspace('dry');
  const run = (await hub('POST', 'dry/runs', { workflow_id: 'nightly', trigger: 'scheduled' })).body;
  const step = { kind: 'workflow_step', workflow_id: 'nightly', run_id: run.run_id, step_id: 'write' };
  assert.equal((await hub('POST', 'dry/debits', { operation: 'text.generate', credits: '3', consumer: step })).status, 402);
  await onPage('dry', { fragment: '&workflows=https://hub.example/workflows/' }, async page => {
    await page.getByRole('alert').getByText('out of AI credits').waitFor();
    assert.equal(await page.getByRole('link', { name: 'Add credits' }).getAttribute('href'), '#add-credits');
    const blocked = page.getByRole('region', { name: 'Blocked runs' });
    const link = blocked.getByRole('link', { name: 'nightly' });
    assert.equal(await link.getAttribute('href'), 'https://hub.example/workflows/nightly');
  });
});

test('m11_another_page_can_embed_the_prompt', async () => {
  const embedding = `<!doctype html><link rel="icon" href="data:,"><ai-credits-prompt></ai-credits-prompt>
    <script type="module" src="${base}/settings/ai-credits/prompt.js"></script>`;
  const hubPage = createServer((_, response) => response.setHeader('content-type', 'text/html').end(embedding));
  await new Promise(listening => hubPage.listen(0, '127.0.0.1', listening));
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${hubPage.address().port}/`);
  const problem = (await spend('dry', '3')).body;
  await page.waitForFunction(() => Boolean(customElements.get('ai-credits-prompt')), null, { timeout: 5000 });
  await page.evaluate(problem => { document.querySelector('ai-credits-prompt').problem = problem; }, problem);
  await page.getByRole('alert').getByText(problem.prompt).waitFor();
  assert.equal(await page.getByRole('link', { name: 'Add credits' }).getAttribute('href'), `${base}/settings/ai-credits`);
  await page.evaluate(() => { document.querySelector('ai-credits-prompt').problem = { prompt: '<b>x</b>', top_up_url: 'javascript:alert(1)' }; });
  await page.getByText('<b>x</b>').waitFor();
  assert.equal(await page.getByRole('link', { name: 'Add credits' }).count(), 0);
  await page.close();
  hubPage.close();
});

test('a_workspace_named_script_stays_text', async () => {
  const name = '<script>document.title = "run"</script><img src=x>';
  await newWorkspace('script', name);
  await onPage('script', {}, async page => {
    await page.getByText(name, { exact: true }).waitFor();
    assert.equal(await page.title(), 'AI Credits');
  });
});

test('who_may_only_look_is_not_asked_to_change_anything', async () => {
  await newWorkspace('looked-at');
  const { token } = await local('/_local/tokens', { workspace: 'looked-at', scope: 'credits:read' });
  const page = await browser.newPage();
  await page.goto(`${base}/settings/ai-credits#token=${token}`);
  await page.getByRole('heading', { name: 'Ledger' }).waitFor();
  assert.equal(await page.getByRole('button', { name: 'Buy' }).count(), 0);
  assert.equal(await page.getByRole('heading', { name: 'Low-balance alert' }).count(), 0);
  assert.equal(await page.getByRole('heading', { name: 'Automatic top-up' }).count(), 0);
  await page.close();
});

test('the_page_without_a_token_says_where_to_come_from', async () => {
  const page = await browser.newPage();
  await page.goto(`${base}/settings/ai-credits`);
  await page.getByText(`Open this page from your workspace's settings.`).waitFor();
  await page.goto(`${base}/settings/ai-credits?top_up=paid`);
  await page.getByText('The credits are added as soon as the payment is confirmed.').waitFor();
  await page.close();
});

for (const [name, options] of Object.entries({
  light: {},
  dark: { colorScheme: 'dark' },
  phone: { viewport: { width: 390, height: 844 } },
  'phone-dark': { viewport: { width: 390, height: 844 }, colorScheme: 'dark' },
})) {
  test(`the_page_is_fit_to_use_${name.replace('-', '_')}`, async () => {
    await onPage('demo', options, async page => {
      await page.getByRole('cell', { name: 'lead-enrichment' }).first().waitFor();
      await page.getByRole('heading', { name: 'The right size' }).waitFor();
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'it scrolls sideways');
      if (pictures) await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: name.startsWith('phone') });
    });
  });
}

test('a payment is refunded and disputed by the buttons of the local page', async () => {
  const workspace = `refunds-${Date.now()}`;
  await newWorkspace(workspace);
  const topUp = await hub('POST', `${workspace}/top-ups`, { pack: 'pack_1k' });
  await local(`/_local/checkouts/${topUp.body.checkout_id}/pay`, { outcome: 'succeeded' });
  const available = async () => (await hub('GET', `${workspace}/balance`)).body.available;
  assert.equal(await available(), '1000');
  const page = await browser.newPage();
  const wrong = [];
  page.on('console', message => ['error', 'warning'].includes(message.type()) && wrong.push(message.text()));
  page.on('pageerror', error => wrong.push(error.message));
  await page.goto(`${base}/_local/payments`);
  const press = async name => {
    await page.getByRole('row').nth(1).getByRole('button', { name, exact: true }).click();
    await page.getByText(`${name}: `).waitFor();
  };
  await press('Refund half');
  assert.equal(await available(), '500');
  await press('Fail refund');
  assert.equal(await available(), '1000');
  await press('Inquire');
  assert.equal(await available(), '1000');
  await press('Escalate');
  assert.equal(await available(), '0');
  await press('Lose dispute');
  await press('Win appeal');
  assert.equal(await available(), '1000');
  assert.deepEqual(wrong, []);
  await page.close();
});

test('m08_an_invoice_and_m03_a_forecast_at_zero_show_on_the_page', async () => {
  const agreed = { credit_limit: '500', commitment: null, invoicing: { price_per_credit_micros: 10_000, currency: 'USD' } };
  await hub('PUT', 'invoiced', { name: 'Invoiced', plan: 'enterprise', billing_email: 'billing@acme.example' });
  assert.equal((await hub('PUT', 'invoiced/agreement', agreed)).status, 201);
  assert.equal((await spend('invoiced', '200')).status, 201);
  await newWorkspace('spent');
  await hub('POST', 'spent/grants', { credits: '10', kind: 'prepaid', reason: 'welcome' });
  assert.equal((await spend('spent', '10')).status, 201);
  await local('/_local/clock', { advance_seconds: 32 * 86_400 });
  await local('/_local/drain');
  await onPage('invoiced', {}, async page => {
    const invoice = page.getByRole('group').filter({ hasText: /INV-\d{4}-\d{6}/ }).first();
    await invoice.getByText('$2.00').first().waitFor();
    await invoice.locator('summary').click();
    await page.getByRole('cell', { name: 'text.generate' }).first().waitFor();
  });
  await onPage('spent', {}, async page => {
    await page.getByText('out of credits').first().waitFor();
    assert.equal(await page.getByText(/runs out on|lasts for a year/).count(), 0);
  });
});
