// States: what fails, what is slow, what is empty. Nothing hides without a word, and no text of the API reaches people.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, browser, checkAxe, failing, figure, newWorkspace, onPage, open, section, tokenFor } from './support.js';

test('a_section_that_failed_says_so_and_tries_again', async () => {
  const paths = ['**/usage?group_by=workflow*', '**/runs?*', '**/usage?group_by=day*'];
  const routes = Object.fromEntries(paths.map(path => [path, failing()]));
  await onPage('demo', { routes }, async page => {
    await figure(page).waitFor();
    for (const name of ['Top workflows', 'Workflow runs this month']) {
      await section(page, name).getByText('This could not be loaded. The server could not answer just now.').waitFor();
    }
    assert.equal(await page.getByText('raw text of the API').count(), 0);
    await page.unroute(paths[0]);
    await section(page, 'Top workflows').getByRole('button', { name: 'Try again' }).click();
    await section(page, 'Top workflows').getByText('This could not be loaded.').waitFor({ state: 'detached' });
  });
});

test('a_balance_that_failed_hides_nothing_else', async () => {
  await onPage('demo', { routes: { '**/balance': failing() } }, async page => {
    await section(page, 'Balance').getByText('This could not be loaded.').waitFor();
    await section(page, 'Workflow runs this month').getByText('of the 10,000 runs').waitFor();
    await page.getByRole('link', { name: 'Billing' }).click();
    await section(page, 'Add credits once').getByText('$45.00').waitFor();
  });
});

for (const [tab, names] of Object.entries({
  usage: ['Months'],
  billing: ['Monthly credits', 'Payment method', 'Automatic top-up', 'Payments', 'All movements of credits'],
  alerts: ['Alerts'],
})) {
  test(`every section of ${tab} says that it failed`, async () => {
    const routes = Object.fromEntries(['usage/history', 'usage', 'subscription', 'payment-method', 'auto-top-up', 'payments', 'ledger', 'alerts'].map(name => [`**/v1/workspaces/*/${name}*`, failing()]));
    await onPage('demo', { path: `/${tab}`, routes }, async page => {
      for (const name of names) await section(page, name).getByText('This could not be loaded.').first().waitFor();
    });
  });
}

test('offline_the_figures_stay_with_their_time', async () => {
  const { page, context } = await open('demo', {});
  await figure(page).waitFor();
  await context.setOffline(true);
  await page.getByText(/You are offline\. These figures are from/).waitFor();
  assert.ok(await figure(page).isVisible());
  await checkAxe(page);
  await context.setOffline(false);
  await page.getByText(/You are offline/).first().waitFor({ state: 'detached' });
  await context.close();
});

test('another_workspace_is_named_as_the_reason', async () => {
  await newWorkspace('mine');
  const page = await browser.newPage();
  await page.goto(`${base}/settings/ai-credits#token=${await tokenFor('mine')}&workspace=demo`);
  await page.getByText('You are signed in for another workspace.').waitFor();
  await page.close();
});

test('skeletons_keep_the_layout', async () => {
  const slow = async route => {
    await new Promise(done => setTimeout(done, 1200));
    await route.continue();
  };
  const { page, context } = await open('demo', { routes: { '**/v1/**': slow } });
  await page.evaluate(() => {
    globalThis.shift = 0;
    new PerformanceObserver(list => { for (const entry of list.getEntries()) globalThis.shift += entry.value; }).observe({ type: 'layout-shift', buffered: true });
  });
  await page.getByText('Loading').first().waitFor({ state: 'attached' });
  await checkAxe(page);
  await figure(page).waitFor();
  await section(page, 'Top workflows').getByRole('listitem').or(page.getByText('Nothing was used this month.')).first().waitFor();
  await page.waitForTimeout(300);
  const shift = await page.evaluate(() => globalThis.shift);
  assert.ok(shift < 0.1, `the layout shifts by ${shift}`);
  await context.close();
});

test('a_workspace_named_script_stays_text', async () => {
  const name = '<script>document.title = "run"</script><img src=x>';
  await newWorkspace('script', { name });
  await onPage('script', {}, async page => {
    await page.getByText(name).waitFor();
    assert.match(await page.title(), /^Overview/);
  });
});

for (const [name, options] of Object.entries({
  light: {},
  dark: { colorScheme: 'dark' },
  phone: { viewport: { width: 390, height: 844 } },
  'phone, dark': { viewport: { width: 390, height: 844 }, colorScheme: 'dark' },
})) {
  test(`every tab is fit to use: ${name}`, async () => {
    await onPage('demo', options, async page => {
      for (const tab of ['Overview', 'Usage', 'Billing', 'Alerts']) {
        await page.getByRole('link', { name: tab, exact: true }).click();
        await page.locator('section').first().waitFor();
        await page.locator('.skeleton').first().waitFor({ state: 'detached' });
        await checkAxe(page);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${tab} scrolls sideways`);
        const wrapped = await page.evaluate(() => [...document.querySelectorAll('.nowrap, .number')].filter(cell => !cell.querySelector('small') && new Set([...cell.getClientRects()].map(({ top }) => Math.round(top))).size > 1).map(cell => cell.textContent));
        assert.deepEqual(wrapped, [], `${tab} wraps figures`);
      }
    });
  });
}
