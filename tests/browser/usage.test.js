// Usage: any month or range, filtered, and what is within a group.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { answering, grant, local, newWorkspace, onPage, section, spend } from './support.js';

const STEP = { kind: 'workflow_step', workflow_id: 'digest', run_id: 'run-1', step_id: 'write' };

async function used(workspace) {
  await newWorkspace(workspace);
  await grant(workspace, '1000');
  await spend(workspace, '10', { operation: 'text.generate', model: 'large', consumer: STEP });
  await spend(workspace, '30', { operation: 'text.extract', model: 'small', consumer: STEP });
  await spend(workspace, '5.5', { consumer: { kind: 'action', feature: 'tidy', user_id: 'chloe' } });
  await local('/_local/drain');
}

const table = (page, name) => page.getByRole('region', { name: `Usage by ${name}` });

test('m09_usage_is_grouped_and_a_group_opens_what_is_within', async () => {
  await used('within');
  await onPage('within', { path: '/usage' }, async page => {
    await table(page, 'workflow').getByRole('row', { name: /digest.*40.*88%.*\$0\.40.*2/ }).waitFor();
    await page.getByRole('radio', { name: 'User' }).focus();
    await page.keyboard.press('ArrowLeft');
    await table(page, 'model').getByRole('row', { name: /small.*30/ }).waitFor();
    await page.keyboard.press('ArrowRight');
    await table(page, 'user').getByRole('cell', { name: 'chloe' }).waitFor();
    await page.getByRole('radio', { name: 'Workflow' }).focus();
    await page.keyboard.press('Space');
    await table(page, 'workflow').getByRole('button', { name: 'digest' }).click();
    await page.getByText('Workflow: digest').waitFor();
    await table(page, 'operation').getByRole('row', { name: /text\.extract.*30/ }).waitFor();
    assert.equal(await page.getByRole('radio', { name: 'Workflow' }).count(), 0);
    await page.goBack();
    await table(page, 'workflow').getByRole('button', { name: 'digest' }).waitFor();
    await page.goForward();
    await page.getByRole('button', { name: 'Remove the filter digest' }).click();
    await table(page, 'workflow').getByRole('button', { name: 'digest' }).waitFor();
  });
});

test('m09_a_month_or_a_range_of_days_can_be_chosen', async () => {
  await onPage('demo', { path: '/usage' }, async page => {
    const period = page.getByLabel('Period');
    // Half a year of months, once the history is there.
    await period.locator('option').nth(6).waitFor({ state: 'attached' });
    const months = await period.locator('option').allTextContents();
    await period.selectOption(months[2]);
    await page.getByRole('heading', { name: months[2], exact: true }).waitFor();
    await period.selectOption('Other days …');
    await page.getByLabel('To', { exact: true }).fill('2000-01-01');
    await page.getByText('The first day must not be after the last').waitFor();
    const first = await page.getByLabel('From', { exact: true }).inputValue();
    await page.getByLabel('To', { exact: true }).fill(`${first.slice(0, 8)}10`);
    await page.getByRole('heading', { name: / – / }).waitFor();
    await page.locator('[role=slider][aria-valuemax="10"]').waitFor();
    await section(page, 'Months').getByRole('button', { name: months[1] }).click();
    await page.getByRole('heading', { name: months[1], exact: true }).waitFor();
    await section(page, 'The right size').getByText('once').first().waitFor();
  });
});

test('a_count_that_is_not_complete_says_so', async () => {
  const detail = { first_day: '2026-11-01', last_day: '2026-11-30', group_by: 'model', filter: null, total: '9000', count: 10_000, groups: [{ key: 'small', credits: '9000', count: 10_000 }], other: null, days: [], entries: 10_000, complete: false, counted_until: '2026-11-12T10:00:00Z' };
  await onPage('demo', { path: '/usage', fragment: '&by=model', routes: { '**/usage/detail*': answering(detail) } }, async page => {
    await page.getByText('These are the first 10,000 entries of the period, up to Nov 12, 2026, 10:00').waitFor();
  });
});

test('the_csv_of_the_view_has_exact_figures', async () => {
  await used('exported');
  await onPage('exported', { path: '/usage' }, async page => {
    await table(page, 'workflow').getByRole('cell', { name: 'digest' }).waitFor();
    const saved = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Download CSV' }).click();
    const lines = (await readFile(await (await saved).path(), 'utf8')).split('\r\n');
    assert.match(lines[0], /^workflow,credits,calls,from,to$/);
    assert.match(lines[1], /^digest,40,2,\d{4}-\d\d-01,/);
  });
});
