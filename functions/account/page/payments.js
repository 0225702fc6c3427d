// The payments, newest first, each with a receipt.
import { html, useState } from './preact.js';
import { useResponse } from './loading.js';
import { Credits, Failed, Section, Table, useAction } from './ui.js';
import { fullDate, money } from './format.js';
import { t } from './texts.js';

export function Payments({ app }) {
  const first = useResponse(app, '/payments');
  const [older, setOlder] = useState(null);
  const action = useAction();
  const payments = [...(first.value?.payments ?? []), ...(older?.payments ?? [])];
  const cursor = older ? older.cursor : first.value?.next_cursor;
  const more = () => action.run(async () => {
    const next = await app.api.get(`/payments?cursor=${cursor}`);
    setOlder({ payments: [...(older?.payments ?? []), ...next.payments], cursor: next.next_cursor });
  });
  return html`<${Section} id="payments" title=${t.payments.title} of=${first} lines=${5} wide=${true}>
    ${() => (payments.length ? html`<${Table} label=${t.payments.title} head=${t.payments.head}>
        ${payments.map(payment => html`<${Row} key=${payment.payment_id} app=${app} payment=${payment} />`)}</${Table}>`
      : html`<p class="quiet">${t.payments.none}</p>`)}
    ${action.problem && html`<${Failed} of=${{ problem: action.problem, reload: more }} />`}
    ${cursor && html`<button class="plain" disabled=${action.busy} onClick=${more}>${t.more}</button>`}
  </${Section}>`;
}

function Row({ app, payment }) {
  const { status, refunded, amount } = payment;
  const receipt = !['failed', 'processing'].includes(status);
  return html`<tr><td class="nowrap">${fullDate(payment.at)}</td><td>${describe(payment)}</td><td class="number"><${Credits} of=${payment.credits} /></td>
    <td class="number">${money(amount)}${refunded.amount > 0 && html`<small>${t.payments.refunded(money(refunded))}</small>`}</td>
    <td><span class=${`chip ${status}`}>${t.payments.status[status] ?? status}</span></td>
    <td>${receipt && html`<a href=${app.link(`billing/receipts/${payment.payment_id}`)} aria-label=${t.payments.receiptOf(fullDate(payment.at), money(amount))}>${t.payments.receipt}</a>`}</td></tr>`;
}

/** The API's description of a payment, with its number of credits as people write it. */
export const describe = ({ description }) => description.replace(/\d{4,}(?=[^\d])/, number => Number(number).toLocaleString(document.documentElement.lang));
