// The sums of the last months, and the tier and packs that would have been cheapest.
import { html } from './preact.js';
import { useLoaded } from './api.js';
import { credits, money, month as monthName } from './format.js';

export function History({ api, moves }) {
  const { value } = useLoaded(() => api.get('/usage/history?months=24'), [api, moves]);
  if (!value) return null;
  return html`<section aria-labelledby="history">
    <h2 id="history">Usage history</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Usage history"><table>
      <thead><tr><th>Month</th>${['Used', 'Topped up', 'Allocated', 'Expired', 'Blocked runs', 'Paid'].map(name => html`<th class="number">${name}</th>`)}</tr></thead>
      <tbody>${value.months.map(month => html`<tr key=${month.month}>
        <td>${monthName(month.month)}</td>
        ${[month.consumed, month.topped_up, month.allocated, month.expired, month.blocked].map(figure => html`<td class="number">${credits(figure)}</td>`)}
        <td class="number">${month.paid.map(money).join(', ') || '–'}</td></tr>`)}</tbody>
    </table></div>
    <h3>The right size</h3>
    ${value.recommendation ? html`<${Recommended} it=${value.recommendation} />` : html`<p>${value.note}</p>`}
  </section>`;
}

function Recommended({ it }) {
  return html`<p><strong>${choice(it)}: ${money(it.price)}</strong>. ${it.reason}</p>
    <details><summary>How this is calculated</summary>
      <div class="scroll" tabindex="0" role="region" aria-label="The calculation, month by month"><table>
        <thead><tr><th>Month</th><th class="number">Needed</th><th class="number">From the allocation</th><th class="number">From prepaid</th><th class="number">Packs bought</th><th class="number">Price</th></tr></thead>
        <tbody>${it.months.map(month => html`<tr><td>${monthName(month.month)}</td>
          ${[month.needed, month.from_allocation, month.from_prepaid, month.packs_bought].map(figure => html`<td class="number">${credits(figure)}</td>`)}
          <td class="number">${money(month.price)}</td></tr>`)}</tbody>
      </table></div>
      ${it.alternatives.length > 0 && html`<p>Alternatives that would also have covered all of it: ${it.alternatives.map(other => `${choice(other)} for ${money(other.price)}`).join('; ')}.</p>`}
    </details>`;
}

/** "2,000 credits a month and 5,000 + 2 × 1,000 credits once" */
function choice({ monthly_credits, mix }) {
  const packs = mix.map(pack => (pack.count > 1 ? `${credits(pack.count)} × ` : '') + credits(pack.credits)).join(' + ');
  return [monthly_credits && `${credits(monthly_credits)} credits a month`, packs && `${packs} credits once`].filter(Boolean).join(' and ') || 'Nothing';
}
