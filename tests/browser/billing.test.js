// Billing: every charge is named before it is made, by keyboard too, and its outcome is said where the person looks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answering, buy, checkAxe, failing, figure, grant, hub, id, local, newWorkspace, onPage, pay, section, spend, subscribe, tabTo } from './support.js';

const dialog = page => page.getByRole('dialog');

test('m04_a_pack_is_bought_by_keyboard_and_its_success_is_in_view', async () => {
  await newWorkspace('buyer');
  await onPage('buyer', {}, async page => {
    await tabTo(page, page.getByRole('link', { name: 'Add credits' }));
    await page.keyboard.press('Enter');
    await page.getByText('$45.00').waitFor();
    await tabTo(page, page.getByRole('button', { name: 'Buy 5,000 credits for $45.00' }));
    const opened = page.context().waitForEvent('page');
    await page.keyboard.press('Enter');
    const checkout = await opened;
    await dialog(page).getByText('The checkout is open in another tab.').waitFor();
    await checkout.waitForURL(/cs_/);
    await pay(checkout);
    const said = dialog(page).getByRole('status').getByText('Paid. 5,000 credits were added.');
    await said.waitFor();
    assert.ok(await said.evaluate(element => {
      const { top, bottom } = element.getBoundingClientRect();
      return top >= 0 && bottom <= innerHeight;
    }), 'the success is not in view');
    await dialog(page).getByText('You have 5,000 credits now.').waitFor();
    await page.keyboard.press('Enter');
    await dialog(page).waitFor({ state: 'detached' });
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Buy 5,000 credits for $45.00');
    await section(page, 'Payments').getByRole('row', { name: /5,000 AI credits.*\$45\.00.*Paid/ }).waitFor();
  });
});

test('m06_an_upgrade_names_its_charge_before_it_is_made', async () => {
  await newWorkspace('upgraded');
  await subscribe('upgraded');
  await onPage('upgraded', { path: '/billing' }, async page => {
    const change = page.getByRole('button', { name: 'Change: 50,000 credits a month for $300.00' });
    await change.waitFor();
    await tabTo(page, change);
    await page.keyboard.press('Enter');
    await dialog(page).getByText(/^Pay \$\d+\.\d\d now with Visa •••• 4242, then \$300\.00 on .* are added at once\.$/).waitFor();
    await checkAxe(page);
    const shown = /\$[\d.]+/.exec(await dialog(page).getByRole('button', { name: /^Pay / }).textContent())[0];
    const put = page.waitForRequest(request => request.method() === 'PUT');
    await tabTo(page, dialog(page).getByRole('button', { name: /^Pay / }));
    await page.keyboard.press('Enter');
    const { expected_due_now } = (await put).postDataJSON();
    assert.equal(`$${(expected_due_now.amount / 100).toFixed(2)}`, shown);
    await dialog(page).getByText(`Done. ${shown} were charged`).waitFor();
    await dialog(page).getByRole('button', { name: 'Done' }).click();
    await section(page, 'Monthly credits').getByText('Next charge: $300.00').waitFor();
  });
});

test('m06_a_changed_price_is_shown_and_asked_again', async () => {
  await newWorkspace('repriced');
  await subscribe('repriced');
  let refused = 0;
  const price = { amount: 12_345, currency: 'USD' };
  const preview = { tier: 'tier_10k', effective: 'now', due_now: price, credits_now: '8000', next_charge: null, payment_method: null, refund: null };
  const routes = {
    '**/subscription': route => (route.request().method() === 'PUT' && refused++ === 0 ? failing(409, { code: 'price_changed', detail: 'raw', due_now: price })(route) : route.fallback()),
    '**/subscription/preview': route => (refused ? answering(preview)(route) : route.fallback()),
  };
  await onPage('repriced', { path: '/billing', routes }, async page => {
    await page.getByRole('button', { name: 'Change: 10,000' }).click();
    await dialog(page).getByRole('button', { name: /^Pay / }).click();
    await dialog(page).getByText('The amount has changed to $123.45. Nothing was charged.').waitFor();
    await dialog(page).getByRole('button', { name: 'Pay $123.45 now' }).waitFor();
  });
});

test('m06_a_declined_upgrade_charges_nothing_and_says_so', async () => {
  await newWorkspace('declined');
  await subscribe('declined');
  await local('/_local/payments', { workspace: id('declined'), outcome: 'declined' });
  await onPage('declined', { path: '/billing' }, async page => {
    await page.getByRole('button', { name: 'Change: 10,000' }).click();
    await dialog(page).getByRole('button', { name: /^Pay / }).click();
    await dialog(page).getByText('Visa •••• 4242 was declined. Nothing was charged, and your plan stays as it is.').waitFor();
    await dialog(page).getByRole('link', { name: 'Change the payment method' }).click();
    await section(page, 'Payment method').getByRole('button', { name: 'Replace' }).waitFor();
  });
});

test('m06_a_payment_that_needs_confirmation_leads_every_tab', async () => {
  await newWorkspace('confirming');
  await subscribe('confirming');
  const subscription = (await hub('GET', 'confirming/subscription')).body;
  const payment_action = { checkout_id: 'cs_1', checkout_url: 'https://checkout.example/cs_1' };
  await onPage('confirming', { path: '/usage', routes: { '**/subscription': answering({ ...subscription, payment_action }) } }, async page => {
    await page.getByText('A payment needs your confirmation.').waitFor();
    await page.getByRole('button', { name: 'Confirm the payment' }).waitFor();
  });
});

test('m06_a_first_subscription_is_paid_at_a_checkout_and_cancelled', async () => {
  await newWorkspace('tiered');
  await onPage('tiered', { path: '/billing' }, async page => {
    await page.getByRole('button', { name: 'Subscribe: 2,000 credits a month for $16.00' }).click();
    await dialog(page).getByText('Pay $16.00 at the checkout, then $16.00 every month.').waitFor();
    const opened = page.context().waitForEvent('page');
    await dialog(page).getByRole('button', { name: 'Go to the checkout' }).click();
    const checkout = await opened;
    await checkout.waitForURL(/cs_/);
    await pay(checkout);
    await dialog(page).getByText('Paid. You get 2,000 credits every month from now on.').waitFor();
    await dialog(page).getByRole('button', { name: 'Done' }).click();
    await section(page, 'Monthly credits').getByText('Next charge: $16.00').waitFor();
    await page.getByRole('button', { name: 'Cancel the subscription' }).click();
    await dialog(page).getByText('You keep your credits until').waitFor();
    await dialog(page).getByRole('button', { name: 'Cancel the subscription' }).click();
    await dialog(page).getByText('It ends on').waitFor();
    await dialog(page).getByRole('button', { name: 'Done' }).click();
    await section(page, 'Monthly credits').getByText('nothing more is charged').waitFor();
  });
});

test('the_payment_method_is_changed_by_keyboard_and_removed', async () => {
  await newWorkspace('carded');
  await buy('carded');
  let reads = 0;
  const other = { payment_method: { type: 'card', brand: 'mastercard', last4: '4444', exp_month: 3, exp_year: 2031 } };
  // The local provider stores the same card again, so the new one is played here.
  const routes = { '**/payment-method': route => (route.request().method() === 'GET' && reads++ > 0 ? answering(other)(route) : route.fallback()) };
  await onPage('carded', { path: '/billing', routes }, async page => {
    const card = section(page, 'Payment method');
    await card.getByText('Visa •••• 4242').waitFor();
    await tabTo(page, card.getByRole('button', { name: 'Replace' }));
    const opened = page.context().waitForEvent('page');
    await page.keyboard.press('Enter');
    await (await opened).close();
    await dialog(page).getByText('Mastercard •••• 4444 is used from now on.').waitFor();
    await page.keyboard.press('Enter');
    await card.getByText('Mastercard •••• 4444').waitFor();
    await page.unroute('**/payment-method');
    await card.getByRole('button', { name: 'Remove' }).click();
    await dialog(page).getByRole('button', { name: 'Remove' }).click();
    await dialog(page).getByText('The payment method was removed.').waitFor();
    await dialog(page).getByRole('button', { name: 'Done' }).click();
    await card.getByText('No payment method is stored.').waitFor();
  });
});

test('m05_automatic_top_up_names_price_card_and_limit', async () => {
  await newWorkspace('automatic');
  await buy('automatic');
  await onPage('automatic', { path: '/billing' }, async page => {
    const automatic = section(page, 'Automatic top-up');
    await automatic.getByRole('checkbox', { name: 'Buy a pack when the balance is low' }).check();
    await automatic.getByLabel('When so many credits are left').fill('1,000');
    await automatic.getByRole('button', { name: 'Save' }).click();
    await automatic.getByText(`Enter less than the pack's 1,000 credits`).waitFor();
    await automatic.getByLabel('When so many credits are left').fill('900');
    await automatic.getByLabel('At most so many packs a month').fill('2');
    await automatic.getByText('Buys 1,000 credits for $10.00 with Visa •••• 4242 whenever 900 or fewer are left, at most 2 times a month ($20.00).').waitFor();
    await automatic.getByRole('button', { name: 'Save' }).click();
    await automatic.getByText('Saved. Automatic top-up is on.').waitFor();
    assert.equal((await spend('automatic', '200')).status, 201);
    await section(page, 'Payments').getByRole('row', { name: /1,000 AI credits/ }).nth(1).waitFor();
  });
  const kept = (await hub('GET', 'automatic/auto-top-up')).body;
  assert.deepEqual([kept.threshold, kept.pack, kept.monthly_limit, kept.bought_this_month.top_ups], ['900', 'pack_1k', 2, 1]);
});

test('m05_a_paused_automatic_top_up_says_why', async () => {
  await newWorkspace('paused');
  await buy('paused');
  const stored = (await hub('GET', 'paused/auto-top-up')).body;
  const routes = { '**/auto-top-up': answering({ ...stored, enabled: true, threshold: '100', pack: 'pack_1k', monthly_limit: 3, status: 'paused', paused_reason: 'dispute' }) };
  await onPage('paused', { routes }, async page => {
    await page.getByText('Automatic top-up is paused, because a payment is disputed.').waitFor();
    await page.getByRole('link', { name: 'Review' }).click();
    await section(page, 'Automatic top-up').getByText('Save it again to continue.').waitFor();
  });
});

test('a_receipt_has_seller_number_and_amount', async () => {
  await newWorkspace('receipted', { name: 'Receipted Ltd' });
  await buy('receipted');
  const seller = { name: 'Example AI GmbH', address: 'Main Street 1\n10115 Berlin', tax_id: 'DE123456789' };
  const routes = { '**/v1/catalog': async route => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), seller } });
  } };
  await onPage('receipted', { path: '/billing', routes }, async page => {
    await page.getByRole('link', { name: /^Receipt of .*\$10\.00/ }).click();
    const receipt = section(page, 'Receipt');
    for (const text of ['Example AI GmbH', '10115 Berlin', 'DE123456789', 'Receipted Ltd', '1,000 AI credits']) await receipt.getByText(text).first().waitFor();
    await receipt.getByText(/^pi_/).waitFor();
    await receipt.getByRole('row', { name: 'Total paid $10.00' }).waitFor();
    await page.emulateMedia({ media: 'print' });
    assert.equal(await page.getByRole('navigation').isVisible(), false);
    await page.emulateMedia({ media: null });
  });
});

test('m08_an_enterprise_workspace_has_invoices_and_nothing_to_buy', async () => {
  await newWorkspace('invoiced', { plan: 'enterprise' });
  const agreed = { credit_limit: '500', commitment: null, invoicing: { price_per_credit_micros: 10_000, currency: 'USD' } };
  assert.equal((await hub('PUT', 'invoiced/agreement', agreed)).status, 201);
  assert.equal((await spend('invoiced', '200')).status, 201);
  await local('/_local/clock', { advance_seconds: 32 * 86_400 });
  await local('/_local/drain');
  await onPage('invoiced', { path: '/billing' }, async page => {
    const invoices = section(page, 'Invoices');
    await invoices.locator('summary').filter({ hasText: '$2.00' }).filter({ hasText: /INV-\d{4}-\d{6}/ }).click();
    await invoices.getByRole('row', { name: /200.*\$2\.00/ }).first().waitFor();
    await section(page, 'Your agreement').getByText('500 credits').waitFor();
    assert.equal(await page.getByRole('button', { name: /Buy|Subscribe|Change/ }).count(), 0);
    await page.getByRole('link', { name: 'Overview' }).click();
    await figure(page).waitFor();
    assert.equal(await page.getByRole('link', { name: 'Add credits' }).count(), 0);
  });
});

test('the_ledger_names_packs_and_filters_kinds', async () => {
  await newWorkspace('listed');
  await buy('listed', 'pack_5k');
  await grant('listed', '7');
  await onPage('listed', { path: '/billing' }, async page => {
    const ledger = section(page, 'All movements of credits');
    await ledger.getByRole('row', { name: /Credits granted.*\+7/ }).waitFor();
    await ledger.getByLabel('Kind').selectOption('Credits bought');
    await ledger.getByRole('row', { name: /Credits bought 5,000 credits \+5,000/ }).waitFor();
    await ledger.getByRole('row', { name: /Credits granted/ }).waitFor({ state: 'detached' });
    const saved = page.waitForEvent('download');
    await ledger.getByRole('button', { name: 'Download CSV' }).click();
    assert.equal((await saved).suggestedFilename(), `ledger-${id('listed')}.csv`);
  });
});
