// Access: where the token comes from, what happens when it ends, and the page within another app.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { base, browser, checkAxe, failing, figure, newWorkspace, onPage, open, section, tokenFor, watch } from './support.js';

/** The origin that the stack's PAGE_ORIGINS allows. Its server is started by the tests. */
const APP = (process.env.PAGE_ORIGINS ?? 'http://127.0.0.1:9200').split(' ')[0];

/** Serves an app's page at an origin until `act` has run. */
async function serving(origin, html, act) {
  const server = createServer(async (request, response) => {
    if (request.url !== '/token') return response.setHeader('content-type', 'text/html').end(html);
    response.setHeader('access-control-allow-origin', base).setHeader('access-control-allow-credentials', 'true');
    response.setHeader('content-type', 'application/json').end(JSON.stringify({ token: await tokenFor('demo') }));
  });
  await new Promise(listening => server.listen(new URL(origin).port, '127.0.0.1', listening));
  try {
    await act(`http://127.0.0.1:${server.address().port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const EMBEDDING = `<!doctype html><html lang="en"><title>App</title><link rel="icon" href="data:,"><h1>App</h1>
  <ai-credits-settings workspace="demo" accent="#0a7d5a"></ai-credits-settings>
  <script type="module" src="${base}/settings/ai-credits/settings.js"></script>
  <script type="module">
    globalThis.asked = 0;
    document.querySelector('ai-credits-settings').getToken = async () => {
      globalThis.asked += 1;
      return (await (await fetch('/token')).json()).token;
    };
  </script>`;

test('the_page_is_a_part_of_an_app_and_renews_its_token', async () => {
  await serving(APP, EMBEDDING, async origin => {
    const page = await browser.newPage();
    page.setDefaultTimeout(10_000);
    await page.goto(origin);
    const frame = page.frameLocator('ai-credits-settings iframe');
    await frame.locator('.figure strong').waitFor();
    assert.equal(await page.evaluate(() => globalThis.asked), 1);
    await page.waitForFunction(() => parseInt(document.querySelector('ai-credits-settings').shadowRoot.querySelector('iframe').style.height, 10) > 700);
    assert.match(await frame.locator(':root').evaluate(root => root.style.getPropertyValue('--accent')), /rgb\(10 125 90\)/);
    // The token ends: the next call is refused once, and the page asks its app again without a word.
    let refused = false;
    await page.route('**/usage/history*', route => (refused ? route.continue() : (refused = true, failing(401, { message: 'Unauthorized' })(route))));
    await frame.getByRole('link', { name: 'Usage', exact: true }).click();
    await frame.getByRole('region', { name: 'Months' }).first().getByRole('button').first().waitFor();
    assert.ok(refused && await page.evaluate(() => globalThis.asked) === 2);
    // Only the frame is loaded again: it asks the app for a token.
    await frame.locator(':root').evaluate(() => { location.reload(); });
    await frame.getByRole('region', { name: 'Months' }).first().getByRole('button').first().waitFor();
    await checkAxe(page);
    await page.close();
  });
});

test('an_app_that_is_not_allowed_gets_neither_page_nor_request', async () => {
  await serving('http://127.0.0.1:0', EMBEDDING, async origin => {
    const page = await browser.newPage();
    const refusals = [];
    page.on('console', message => message.text().includes('frame-ancestors') && refusals.push(message.text()));
    await page.goto(origin);
    await page.waitForTimeout(1500);
    assert.equal(await page.evaluate(() => globalThis.asked), 0);
    assert.ok(refusals.length > 0);
    await page.close();
  });
});

test('a_message_from_another_window_is_no_token', async () => {
  await serving(APP, EMBEDDING.replace(/document\.querySelector[^]*?};/, ''), async origin => {
    const page = await browser.newPage();
    await page.goto(origin);
    const frame = page.frames().find(one => one.url().includes('/settings/')) ?? await page.waitForEvent('frameattached');
    await frame.waitForLoadState();
    // The frame itself is another source than its parent.
    await frame.evaluate(token => { window.postMessage({ type: 'ai-credits:token', token }, '*'); }, await tokenFor('demo'));
    await page.waitForTimeout(500);
    assert.equal(await frame.locator('.figure').count(), 0);
    await page.close();
  });
});

test('after_a_reload_the_refresh_address_gives_a_token', async () => {
  await serving(APP, '', async origin => {
    const page = await browser.newPage();
    page.setDefaultTimeout(10_000);
    await page.goto(`${base}/settings/ai-credits#/usage?token=${await tokenFor('demo')}&refresh=${origin}/token`);
    await page.getByRole('heading', { name: 'Months' }).waitFor();
    assert.ok(!page.url().includes('token='), page.url());
    await page.reload();
    await section(page, 'Months').getByRole('row').nth(1).waitFor();
    assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]), [0, 0, '']);
    await page.close();
  });
});

test('a_token_that_ends_keeps_what_was_typed', async () => {
  await newWorkspace('expiring');
  const { page, context, wrong } = await open('expiring', { path: '/alerts', fragment: '&app=https://app.example/settings' });
  await page.getByRole('checkbox', { name: 'Send a mail when the balance is low' }).check();
  await page.getByRole('textbox', { name: 'Threshold 1' }).fill('250');
  await page.getByRole('textbox', { name: 'To, one address per line' }).first().fill('ada@acme.example');
  await page.route('**/v1/**', failing(401, { message: 'Unauthorized' }));
  await page.getByRole('button', { name: 'Save' }).click();
  const dialog = page.getByRole('dialog', { name: 'Your session has ended' });
  assert.equal(await dialog.getByRole('link', { name: 'Open your app' }).getAttribute('href'), 'https://app.example/settings');
  await checkAxe(page);
  await dialog.getByRole('button', { name: 'Close' }).click();
  assert.equal(await page.getByRole('textbox', { name: 'Threshold 1' }).inputValue(), '250');
  assert.equal(await page.getByText('Unauthorized').count(), 0);
  await page.unroute('**/v1/**');
  // The app opens the page again with another token: the same document takes it.
  await page.evaluate(token => { location.hash = `#/alerts?token=${token}`; }, await tokenFor('expiring'));
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved.').waitFor();
  assert.ok(!page.url().includes('token='));
  assert.deepEqual(wrong, []);
  await context.close();
});

test('the_page_without_a_token_says_where_to_come_from', async () => {
  const page = await browser.newPage();
  const wrong = watch(page);
  await page.goto(`${base}/settings/ai-credits#/billing?app=https://app.example/settings`);
  await page.getByText('This page opens from your app').waitFor();
  assert.equal(await page.getByRole('link', { name: 'Open your app' }).getAttribute('href'), 'https://app.example/settings');
  await checkAxe(page);
  await page.goto(`${base}/settings/ai-credits?top_up=paid`);
  await page.getByText('The credits are added as soon as the payment is confirmed').waitFor();
  await page.goto(`${base}/settings/ai-credits#app=javascript:alert(1)`);
  await page.reload();
  await page.getByText('This page opens from your app').waitFor();
  assert.equal(await page.getByRole('link').count(), 0);
  assert.deepEqual(wrong, []);
  await page.close();
});

test('the_look_follows_theme_locale_and_time_zone', async () => {
  await onPage('demo', { fragment: '&theme=dark&locale=de-DE&time-zone=Europe/Berlin&accent=ffe000', path: '/billing' }, async page => {
    await page.getByText('Times are in Europe/Berlin.').waitFor();
    await section(page, 'Add credits once').getByText('45,00').waitFor();
    assert.equal(await page.locator(':root').evaluate(root => root.style.colorScheme), 'dark');
  });
});

test('a_reader_reads_to_ask_an_owner', async () => {
  await newWorkspace('looked-at');
  await onPage('looked-at', { scope: 'credits:read' }, async page => {
    await page.getByText('Ask an owner of the workspace to add credits.').first().waitFor();
    await page.getByRole('link', { name: 'Billing' }).click();
    await page.getByText('ask an owner of this workspace').waitFor();
    await section(page, 'All movements of credits').waitFor();
    assert.equal(await page.getByRole('button', { name: /Buy|Subscribe|Change|Replace|Save/ }).count(), 0);
    await page.getByRole('link', { name: 'Alerts' }).click();
    await page.getByText('Alerts are set by the owners').waitFor();
    await page.getByRole('link', { name: 'Usage' }).click();
    await section(page, 'Months').waitFor();
    await page.getByRole('link', { name: 'Overview' }).click();
    await figure(page).waitFor();
  });
});
