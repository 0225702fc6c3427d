// Tests of the local stack's own pages in Debian's chromium: the checkout, the payments and the index. They run on a
// `cargo local demo` at AI_CREDITS_LOCAL. Every page must end without an error on the console, and without a serious
// finding of axe.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';

const base = process.env.AI_CREDITS_LOCAL;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const pictures = process.env.AI_CREDITS_PICTURES;
const views = {
  light: {},
  dark: { colorScheme: 'dark' },
  phone: { viewport: { width: 390, height: 844 } },
};
let browser;

before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
});
after(() => browser.close());

/** Calls the API as the hub does. */
async function hub(method, path, body) {
  const order = { workspace: '*', scope: 'credits:spend credits:read credits:manage' };
  const issued = await fetch(`${base}/_local/tokens`, { method: 'POST', body: JSON.stringify(order) });
  const { token } = await issued.json();
  const response = await fetch(`${base}/v1/workspaces/${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'idempotency-key': crypto.randomUUID() },
    body: body && JSON.stringify(body),
  });
  return response.json();
}

const newWorkspace = workspace =>
  hub('PUT', workspace, { name: `Name of ${workspace}`, plan: 'team', billing_email: 'billing@acme.example' });
const openCheckout = async workspace => (await hub('POST', `${workspace}/top-ups`, { pack: 'pack_1k' })).checkout_url;
const available = async workspace => (await hub('GET', `${workspace}/balance`)).available;

/** Opens a page, runs `act` on it, and checks that the page is accessible and that no errors occurred. */
async function onPage(address, options, act) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on('console', message => ['error', 'warning'].includes(message.type()) && wrong.push(message.text()));
  page.on('pageerror', error => wrong.push(error.message));
  page.on('request', request => new URL(request.url()).origin === base || request.url().startsWith('data:') || wrong.push(request.url()));
  await page.goto(address);
  await act(page, context);
  if (options.javaScriptEnabled !== false) await assertAccessible(page);
  assert.deepEqual(wrong, []);
  await context.close();
}

async function assertAccessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(node => node.html)]), []);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'it scrolls sideways');
}

async function look(page, name) {
  if (pictures) await page.screenshot({ path: `${pictures}/local-${name}.png` });
}

const isSuccess = url => url.pathname === '/settings/ai-credits' && /paid/.test(url.href);

for (const [view, options] of Object.entries(views)) {
  test(`the_checkout_and_the_index_fit_${view}`, async () => {
    await newWorkspace(`fit-${view}`);
    const checkout = await openCheckout(`fit-${view}`);
    await onPage(checkout, options, async page => {
      await page.getByRole('heading', { name: '1000 AI credits' }).waitFor();
      await look(page, `checkout-${view}`);
    });
    await onPage(base, options, async page => {
      await page.getByText('Create a workspace').click();
      await page.locator('#events summary').first().click();
      await page.getByLabel('The event as JSON').first().waitFor();
      await look(page, `index-${view}`);
    });
  });
}

test('a_double_click_pays_once_and_returns_to_the_success_page', async () => {
  await newWorkspace('once');
  const checkout = await openCheckout('once');
  await onPage(checkout, {}, async (page, context) => {
    const other = await context.newPage();
    await other.goto(checkout);
    await page.getByRole('button', { name: 'Pay $10.00' }).dblclick();
    await page.waitForURL(isSuccess);
    assert.equal(await available('once'), '1000');
    await page.goBack();
    await page.getByRole('heading', { name: 'Already paid' }).waitFor();
    await page.reload();
    await page.getByRole('heading', { name: 'Already paid' }).waitFor();
    await other.getByRole('button', { name: 'Pay $10.00' }).click();
    await other.getByRole('heading', { name: 'Already paid' }).waitFor();
    await other.getByRole('link', { name: 'Continue to AI Credits' }).click();
    await other.waitForURL(isSuccess);
    assert.equal(await available('once'), '1000');
  });
});

test('a_checkout_works_without_javascript', async () => {
  await newWorkspace('no-script');
  await onPage(await openCheckout('no-script'), { javaScriptEnabled: false }, async page => {
    await page.getByRole('button', { name: 'Decline' }).click();
    await page.getByText('Your card was declined.').waitFor();
    // The browser may drop the response to the first click, and follow the second one.
    await page.getByRole('button', { name: 'Pay $10.00' }).dblclick();
    await Promise.any([page.waitForURL(isSuccess), page.getByRole('heading', { name: 'Already paid' }).waitFor()]);
  });
  assert.equal(await available('no-script'), '1000');
});

test('a_checkout_is_declined_authenticated_and_cancelled', async () => {
  await newWorkspace('declined');
  await onPage(await openCheckout('declined'), {}, async page => {
    await page.getByRole('button', { name: 'Decline' }).click();
    await page.getByRole('status').getByText('Your card was declined.').waitFor();
    await look(page, 'checkout-declined');
    await page.getByRole('button', { name: 'Require authentication' }).click();
    await page.getByRole('button', { name: 'Reject' }).click();
    await page.getByRole('status').getByText('did not approve').waitFor();
    assert.equal(await available('declined'), '0');
    await page.getByRole('link', { name: 'Cancel' }).click();
    await page.waitForURL(url => url.pathname === '/settings/ai-credits' && /cancelled/.test(url.href));
    await page.goBack();
    await page.getByRole('button', { name: 'Require authentication' }).click();
    await assertAccessible(page);
    await page.getByRole('button', { name: 'Approve' }).click();
    await page.waitForURL(isSuccess);
    assert.equal(await available('declined'), '1000');
    await page.goBack();
    await page.getByRole('heading', { name: 'Already paid' }).waitFor();
  });
});

test('a_card_is_saved_and_nothing_is_due', async () => {
  await newWorkspace('saved');
  const { checkout_url } = await hub('POST', 'saved/payment-method');
  await onPage(checkout_url, {}, async page => {
    await page.getByText('Nothing is due today.').waitFor();
    await page.getByRole('button', { name: 'Save card' }).click();
    await page.waitForURL(url => url.pathname === '/settings/ai-credits');
    await page.goto(checkout_url);
    await page.getByRole('heading', { name: 'Card saved' }).waitFor();
  });
});

test('the_index_opens_a_workspace_as_owner_and_as_reader', async () => {
  await onPage(base, {}, async page => {
    await page.getByText('Create a workspace').click();
    await page.getByRole('textbox', { name: 'Id' }).fill('from-index');
    await page.getByRole('textbox', { name: 'Name' }).fill('From the index');
    await page.getByRole('button', { name: 'Create workspace' }).click();
    await page.getByRole('status').getByText('The workspace from-index was created.').waitFor();
    for (const opener of ['owner', 'reader']) {
      const answered = page.waitForResponse(response => response.url().endsWith('/v1/workspaces/from-index/balance'));
      await page.getByRole('button', { name: `Open as ${opener}: from-index` }).click();
      assert.equal((await answered).status(), 200);
      await page.goto(base);
    }
  });
});

test('the_index_moves_the_clock_and_shows_mails_and_events', async () => {
  await newWorkspace('watched');
  await onPage(await openCheckout('watched'), {}, async page => {
    await page.getByRole('button', { name: 'Pay $10.00' }).click();
    await page.waitForURL(isSuccess);
    await page.goto(base);
    const mail = page.getByRole('region', { name: 'Mail' });
    await mail.getByRole('link', { name: /Receipt: 1000 AI credits/ }).first().waitFor();
    const events = page.getByRole('region', { name: 'Events' });
    const added = events.getByRole('group').filter({ hasText: 'CreditsAdded' }).first();
    await added.getByText('CreditsAdded').first().click();
    await added.getByText('"workspace_id": "watched"').waitFor();
    const clock = page.getByRole('region', { name: 'Clock' });
    const now = async () => Date.parse(await clock.locator('time').textContent());
    const before = await now();
    await clock.getByRole('button', { name: '+1 hour' }).click();
    await page.getByRole('status').getByText('The clock moved ahead by an hour.').waitFor();
    const moved = await now() - before;
    assert.ok(moved >= 3_599_000 && moved < 3_700_000, `${moved} ms`);
    await page.getByRole('region', { name: 'Dead letters' }).getByText('None').waitFor();
  });
});

test('the_index_refunds_and_disputes_a_payment', async () => {
  await newWorkspace('refunded');
  await onPage(await openCheckout('refunded'), {}, async page => {
    await page.getByRole('button', { name: 'Pay $10.00' }).click();
    await page.waitForURL(isSuccess);
    await page.goto(base);
    const press = async name => {
      await page.getByRole('row').nth(1).getByRole('button', { name, exact: true }).click();
      await page.getByRole('status').getByText(`${name}: `).waitFor();
    };
    await press('Refund half');
    assert.equal(await available('refunded'), '500');
    await press('Dispute');
    assert.equal(await available('refunded'), '0');
    await press('Win dispute');
    assert.equal(await available('refunded'), '500');
  });
});

test('the_index_sets_the_outcome_of_the_next_charges', async () => {
  await newWorkspace('next');
  await onPage(base, {}, async page => {
    await page.getByRole('combobox', { name: 'Workspace' }).fill('next');
    await page.getByRole('combobox', { name: 'Outcome' }).selectOption('Declined');
    await page.getByRole('button', { name: 'Set outcome' }).click();
    await page.getByRole('status').getByText('The outcome of the next charges of next is set.').waitFor();
    await page.getByRole('button', { name: 'Start an outage' }).click();
    await page.getByText('Stripe is unreachable').waitFor();
    await page.getByRole('button', { name: 'End the outage' }).click();
    await page.getByText('Stripe is reachable').waitFor();
  });
});
