// The overview: what is left, until when, and what needs action, above the fold and without a reload.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { blockRun, buy, checkAxe, figure, grant, hub, id, local, newWorkspace, onPage, open, section, spend, subscribe } from './support.js';

test('m09_the_overview_shows_balance_month_workflows_and_runs', async () => {
  // The month may have begun minutes ago, so the demo's own history may have no use in it yet.
  const consumer = { kind: 'workflow_step', workflow_id: 'lead-enrichment', run_id: 'run-1', step_id: 'enrich' };
  assert.equal((await spend('demo', '1', { operation: 'record.enrich', consumer })).status, 201);
  await onPage('demo', {}, async page => {
    await section(page, 'Top workflows').getByRole('link', { name: 'lead-enrichment' }).waitFor();
    await section(page, 'Workflow runs this month').getByText('of the 10,000 runs of your plan').waitFor();
    await page.getByText(/[\d.,]+ of [\d.,]+ used in/).waitFor();
    await page.getByRole('slider', { name: 'Credits by day' }).waitFor();
    assert.match(await page.evaluate(() => location.hash), /^#\/overview\?workspace=demo$/);
  });
});

for (const [width, height] of [[1280, 800], [390, 844]]) {
  test(`the fold at ${width} by ${height} has balance, status and action`, async () => {
    const workspace = `fold-${width}`;
    await newWorkspace(workspace);
    await grant(workspace, '10');
    await spend(workspace, '10');
    await onPage(workspace, { viewport: { width, height } }, async page => {
      await page.getByText('You are out of credits.').waitFor();
      for (const shown of [figure(page), page.getByText('You are out of credits.'), page.getByRole('link', { name: 'Add credits' }), page.locator('.outlook')]) {
        const box = await shown.boundingBox();
        assert.ok(box && box.y + box.height <= height, `${shown} ends at ${box?.y + box?.height}`);
      }
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'the page scrolls sideways');
    });
  });
}

test('at_almost_zero_with_a_refused_call_the_page_warns', async () => {
  await newWorkspace('almost');
  await grant('almost', '500');
  await spend('almost', '499.95');
  assert.equal((await spend('almost', '3')).status, 402);
  await onPage('almost', {}, async page => {
    await page.getByText('You are out of credits.').waitFor();
    assert.equal(await page.locator('.outlook').textContent(), 'Out of credits');
    assert.equal(await page.locator('.bar .prepaid').count(), 0);
  });
});

test('m06_past_due_leads_the_page_with_a_way_out', async () => {
  await newWorkspace('past-due');
  await subscribe('past-due');
  await grant('past-due', '5000');
  await local('/_local/payments', { workspace: id('past-due'), outcome: 'declined' });
  await local('/_local/clock', { advance_seconds: 32 * 86_400 });
  await local('/_local/drain');
  await onPage('past-due', {}, async page => {
    await page.locator('.notice.bad').first().getByText('Your payment was declined.').waitFor();
    await page.getByRole('link', { name: 'Change the payment method' }).click();
    await section(page, 'Payment method').getByRole('button', { name: 'Replace' }).waitFor();
    await page.getByText('Your payment was declined.').waitFor();
  });
});

test('m15_a_low_balance_is_named_before_it_ends', async () => {
  await newWorkspace('low');
  await grant('low', '150');
  await hub('PUT', 'low/alerts', { low_balance: { enabled: true, threshold: '200', recipients: ['ada@acme.example'] } });
  await onPage('low', {}, async page => {
    await page.getByText('Your credits are low.').waitFor();
    await page.getByText('Your alert is set to 200 credits.').waitFor();
  });
});

test('a_new_workspace_is_welcomed', async () => {
  await newWorkspace('brand-new');
  await onPage('brand-new', {}, async page => {
    await page.getByText('This workspace has no credits yet. Add some to start.').waitFor();
    assert.equal(await page.locator('.notice.bad').count(), 0);
    assert.equal(await section(page, '1 blocked run').count(), 0);
  });
});

test('m14_blocked_runs_show_since_the_last_addition_only', async () => {
  await newWorkspace('blocked');
  await blockRun('blocked');
  const { page, context } = await open('blocked', { fragment: '&workflows=https://hub.example/workflows/' });
  const blocked = section(page, '1 blocked run');
  assert.equal(await blocked.getByRole('link', { name: 'nightly' }).getAttribute('href'), 'https://hub.example/workflows/nightly');
  await checkAxe(page);
  await blocked.getByRole('button', { name: 'Dismiss' }).click();
  await blocked.waitFor({ state: 'detached' });
  await page.reload();
  await context.close();
  await grant('blocked', '100');
  await onPage('blocked', {}, async again => {
    await again.getByText('Nothing was used this month.').waitFor();
    assert.equal(await section(again, '1 blocked run').count(), 0);
  });
});

test('m03_what_is_spent_and_added_shows_without_a_reload', async () => {
  await newWorkspace('live');
  await onPage('live', {}, async page => {
    await figure(page).getByText('0', { exact: true }).waitFor();
    await buy('live');
    await figure(page).getByText('1,000', { exact: true }).waitFor();
    assert.equal((await spend('live', '0.123456')).status, 201);
    await figure(page).getByText('999.88', { exact: true }).waitFor();
    assert.equal(await figure(page).locator('[title="999.876544"]').count(), 1);
  });
});

test('the_chart_tells_each_day_by_keys_and_touch', async () => {
  await onPage('demo', { hasTouch: true }, async page => {
    const chart = page.getByRole('slider', { name: 'Credits by day' });
    await chart.focus();
    await page.keyboard.press('Home');
    assert.match(await chart.getAttribute('aria-valuetext'), / 1, \d{4}: .*credits? \(/);
    await page.keyboard.press('ArrowRight');
    assert.equal(await chart.getAttribute('aria-valuenow'), '2');
    assert.match(await page.locator('.readout').textContent(), / 2, \d{4}: /);
    const box = await chart.boundingBox();
    await page.touchscreen.tap(box.x + box.width - 4, box.y + 60);
    assert.ok(Number(await chart.getAttribute('aria-valuenow')) >= 28);
  });
});

test('m09_a_quiet_page_makes_few_calls_and_a_hidden_one_none', async () => {
  await newWorkspace('quiet');
  await onPage('quiet', { clock: true }, async page => {
    await figure(page).waitFor();
    let calls = 0;
    page.on('request', request => { calls += request.url().includes('/v1/'); });
    const passes = async (minutes, hidden) => {
      await page.evaluate(hide => {
        Object.defineProperty(document, 'hidden', { value: hide, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
      calls = 0;
      for (let step = 0; step < minutes * 4; step += 1) {
        await page.clock.runFor(15_000);
        // The answer comes in real time, and sets the next timer.
        await new Promise(done => setTimeout(done, 40));
      }
      return calls;
    };
    const quiet = await passes(60, false);
    assert.ok(quiet > 20 && quiet <= 60, `${quiet} calls in an hour`);
    assert.equal(await passes(10, true), 0);
    const again = page.waitForRequest(request => request.url().endsWith('/balance'), { timeout: 2000 });
    await page.evaluate(() => {
      Object.defineProperty(document, 'hidden', { value: false, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    });
    await again;
  });
});
