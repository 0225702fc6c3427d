// A receipt: a view of one payment that prints on one page.
import { html } from './preact.js';
import { useLoaded } from './loading.js';
import { describe } from './payments.js';
import { Credits, Section } from './ui.js';
import { fullDate, money } from './format.js';
import { t } from './texts.js';

/** The most pages of payments that are searched for one. */
const PAGES = 20;

export function Receipt({ app, id }) {
  const payment = useLoaded(() => find(app.api, id), `receipt ${id}`, 0);
  const of = { ...payment, value: payment.value && app.catalog && payment.value };
  return html`<p class="back"><a href=${app.link('billing')}>${t.receipt.back}</a></p>
    <${Section} id="receipt" title=${t.receipt.title} of=${of} lines=${10}
      tools=${html`<span class="actions">${payment.value?.receipt_url && html`<a class="button plain" href=${payment.value.receipt_url} target="_blank" rel="noopener noreferrer">${t.receipt.provider}</a>`}
        <button onClick=${() => print()}>${t.receipt.print}</button></span>`}>
      ${found => (found.payment_id ? html`<${Paper} app=${app} payment=${found} />` : html`<p>${t.receipt.unknown}</p>`)}
    </${Section}>`;
}

function Paper({ app, payment }) {
  const { seller } = app.catalog;
  const facts = [[t.receipt.number, payment.payment_id], [t.receipt.date, fullDate(payment.at)], [t.receipt.to, app.profile?.name], [t.receipt.email, app.profile?.billing_email]];
  return html`<div class="receipt">
    ${seller && html`<address><b>${seller.name}</b><br />${String(seller.address ?? '').split('\n').map(line => html`${line}<br />`)}${seller.tax_id && t.receipt.taxId(seller.tax_id)}</address>`}
    <dl>${facts.filter(([, value]) => value).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <table><thead><tr><th scope="col">${t.receipt.item}</th><th class="number" scope="col">${t.receipt.credits}</th><th class="number" scope="col">${t.receipt.amount}</th></tr></thead>
      <tbody><tr><td>${describe(payment)}</td><td class="number"><${Credits} of=${payment.credits} /></td><td class="number">${money(payment.amount)}</td></tr>
        ${payment.refunded.amount > 0 && html`<tr><td>${t.receipt.refunded}</td><td></td><td class="number">−${money(payment.refunded)}</td></tr>`}</tbody>
      <tfoot><tr><th scope="row">${t.receipt.total}</th><td></td><td class="number">${money({ ...payment.amount, amount: payment.amount.amount - payment.refunded.amount })}</td></tr></tfoot></table>
  </div>`;
}

async function find(api, id) {
  for (let page = 0, cursor = ''; page < PAGES; page += 1) {
    const { payments, next_cursor } = await api.get(`/payments${cursor && `?cursor=${cursor}`}`);
    const found = payments.find(({ payment_id }) => payment_id === id);
    if (found || !next_cursor) return found ?? {};
    cursor = next_cursor;
  }
  return {};
}
