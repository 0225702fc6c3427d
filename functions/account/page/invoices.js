// The invoices of an Enterprise workspace: its commitment, and usage beyond its credits by operation.
import { html } from './preact.js';
import { useLoaded } from './api.js';
import { credits, date, money, month as monthName, words } from './format.js';

export function Invoices({ api, moves }) {
  const { value } = useLoaded(() => api.get('/invoices'), [api, moves]);
  if (!value?.invoices.length) return null;
  return html`<section aria-labelledby="invoices">
    <h2 id="invoices">Invoices</h2>
    ${value.invoices.map(invoice => html`<details key=${invoice.invoice_id}>
      <summary>${monthName(invoice.month)}: ${money(invoice.total)} <small>${invoice.number ?? 'not numbered yet'} · ${words(invoice.status)}</small></summary>
      <div class="scroll" tabindex="0" role="region" aria-label=${`Invoice of ${monthName(invoice.month)}`}><table>
        <thead><tr><th>Item</th><th class="number">Credits</th><th class="number">Price</th></tr></thead>
        <tbody>${invoice.lines.map(line => html`<tr><td>${line.description}</td><td class="number">${credits(line.credits)}</td>
          <td class="number">${money({ ...invoice.total, amount: line.amount })}</td></tr>`)}</tbody>
      </table></div>
      <p class="quiet">Issued on ${date(invoice.issued_at)}.${invoice.note && ` ${invoice.note}`}</p>
    </details>`)}
  </section>`;
}
