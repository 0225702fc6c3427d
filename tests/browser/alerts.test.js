// Alerts: several thresholds and notices before credits expire, with each error at its field.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answering, failing, hub, newWorkspace, onPage, tabTo } from './support.js';

const STORED = {
  low_balance: { enabled: true, threshold: null, thresholds: [{ credits: '200' }], recipients: ['ada@acme.example'] },
  expiry: { enabled: false, days: [30, 7, 1], recipients: [] },
};

/** Answers as an API that knows several thresholds, and keeps the order that was put. */
function several(put, refusal) {
  return { '**/alerts': route => {
    if (route.request().method() === 'GET') return answering(STORED)(route);
    put.push(route.request().postDataJSON());
    return refusal ? failing(422, refusal)(route) : answering(STORED)(route);
  } };
}

test('m15_an_alert_is_set_by_keyboard_alone', async () => {
  await newWorkspace('alerted');
  await onPage('alerted', { path: '/alerts' }, async page => {
    const enable = page.getByRole('checkbox', { name: 'Send a mail when the balance is low' });
    await enable.waitFor();
    await tabTo(page, enable);
    await page.keyboard.press('Space');
    await tabTo(page, page.getByRole('textbox', { name: 'Threshold 1' }));
    await page.keyboard.type('1,250.50');
    await tabTo(page, page.getByRole('textbox', { name: 'To, one address per line' }).first());
    await page.keyboard.type('ada@acme.example\nben@acme.example');
    await tabTo(page, page.getByRole('button', { name: 'Save' }));
    await page.keyboard.press('Enter');
    await page.getByText('Saved.').waitFor();
  });
  const { low_balance } = (await hub('GET', 'alerted/alerts')).body;
  assert.deepEqual([low_balance.enabled, low_balance.recipients], [true, ['ada@acme.example', 'ben@acme.example']]);
  assert.equal(low_balance.threshold ?? low_balance.thresholds[0].credits, '1250.5');
});

test('what_is_wrong_is_said_at_its_field_in_words', async () => {
  await newWorkspace('mistyped');
  await onPage('mistyped', { path: '/alerts' }, async page => {
    await page.getByRole('checkbox', { name: 'Send a mail when the balance is low' }).check();
    await page.getByRole('textbox', { name: 'Threshold 1' }).fill('1e9');
    await page.getByRole('textbox', { name: 'To, one address per line' }).first().fill('ada@acme.example\nben.acme.example');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Enter a number of credits above zero, such as 250.5.').waitFor();
    await page.getByText('ben.acme.example is not an e-mail address.').waitFor();
    assert.ok(await page.getByRole('textbox', { name: 'Threshold 1' }).evaluate(input => input === document.activeElement));
  });
  assert.equal((await hub('GET', 'mistyped/alerts')).body.low_balance.enabled, false);
});

test('a_refusal_of_the_api_is_said_at_its_field_in_words', async () => {
  const put = [];
  const refusal = { code: 'invalid_request', detail: 'raw', errors: [{ field: 'low_balance.recipients.1', message: 'must be an e-mail address' }] };
  await onPage('demo', { path: '/alerts', routes: several(put, refusal) }, async page => {
    const to = page.getByRole('textbox', { name: 'To, one address per line' }).first();
    await to.fill('ada@acme.example\nben@nowhere.invalid');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('ben@nowhere.invalid is not an e-mail address.').waitFor();
    assert.equal(await to.getAttribute('aria-invalid'), 'true');
    assert.equal(await page.getByText('must be an address').count(), 0);
  });
});

test('m15_several_thresholds_and_expiry_notices_are_saved', async () => {
  const put = [];
  await onPage('demo', { path: '/alerts', routes: several(put) }, async page => {
    await page.getByRole('button', { name: 'Add a threshold' }).click();
    await page.getByRole('textbox', { name: 'Threshold 2' }).fill('20');
    await page.getByRole('combobox', { name: 'Unit of threshold 2' }).selectOption('% of the monthly allocation');
    await page.getByRole('checkbox', { name: 'Send a mail before credits expire' }).check();
    await page.getByRole('checkbox', { name: '30 days' }).uncheck();
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Enter at least one e-mail address.').waitFor();
    await page.getByRole('textbox', { name: 'To, one address per line' }).last().fill('ada@acme.example');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Saved.').waitFor();
  });
  assert.deepEqual(put, [{
    low_balance: { enabled: true, thresholds: [{ credits: '200' }, { percent_of_allocation: 20 }], recipients: ['ada@acme.example'] },
    expiry: { enabled: true, days: [7, 1], recipients: ['ada@acme.example'] },
  }]);
});
