// The pages of the local stack itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, browser, hub, local, newWorkspace, watch } from './support.js';

test('a payment is refunded and disputed by the buttons of the local page', async () => {
  const workspace = 'refunds';
  await newWorkspace(workspace);
  const topUp = await hub('POST', `${workspace}/top-ups`, { pack: 'pack_1k' });
  await local(`/_local/checkouts/${topUp.body.checkout_id}/pay`, { outcome: 'succeeded' });
  const available = async () => (await hub('GET', `${workspace}/balance`)).body.available;
  assert.equal(await available(), '1000');
  const page = await browser.newPage();
  const wrong = watch(page);
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
