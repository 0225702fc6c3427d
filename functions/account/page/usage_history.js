// The months so far, and the tier and packs that would have been cheapest.
import { html } from './preact.js';
import { useResponse } from './loading.js';
import { Credits, Section, Table } from './ui.js';
import { count, credits, money, month as monthName } from './format.js';
import { t } from './texts.js';

export function History({ app, show }) {
  const history = useResponse(app, '/usage/history?months=24');
  return html`<${Section} id="history" title=${t.usage.history} of=${history} lines=${8} wide=${true}>
    ${({ months }) => html`<${Table} label=${t.usage.history} head=${t.usage.historyHead}>${months.map(month => html`<tr key=${month.month}>
      <td><button class="link" onClick=${() => show({ month: month.month, range: false, filter: null })}>${monthName(month.month)}</button></td>
      ${[month.consumed, month.topped_up, month.allocated, month.expired].map((figure, at) => html`<td key=${at} class="number"><${Credits} of=${figure} /></td>`)}
      <td class="number">${count(month.blocked)}</td>
      <td class="number">${month.paid.map(money).join(', ') || '–'}</td></tr>`)}</${Table}>`}
  </${Section}>
  ${history.value && !app.enterprise && html`<${Section} id="right" title=${t.usage.right} wide=${true}>
    ${history.value.recommendation ? html`<${Recommended} it=${history.value.recommendation} />` : html`<p>${history.value.note}</p>`}</${Section}>`}`;
}

function Recommended({ it }) {
  return html`<p class="lead"><b>${t.usage.best(choice(it), money(it.price))}</b></p><p>${grouped(it.reason)}</p>
    <details><summary>${t.usage.how}</summary>
      <${Table} label=${t.usage.how} head=${t.usage.howHead}>${it.months.map(month => html`<tr key=${month.month}><td>${monthName(month.month)}</td>
        ${[month.needed, month.from_allocation, month.from_prepaid].map((figure, at) => html`<td key=${at} class="number"><${Credits} of=${figure} /></td>`)}
        <td class="number">${count(month.packs_bought)}</td><td class="number">${money(month.price)}</td></tr>`)}</${Table}>
      ${it.alternatives.length > 0 && html`<p>${t.usage.alternatives(it.alternatives.map(other => t.usage.alternative(choice(other), money(other.price))).join('; '))}</p>`}
    </details>`;
}

/** The API's sentence, with its long numbers and its money as people write them. */
const grouped = text => text.replace(/\b([A-Z]{3}) (\d+(?:\.\d+)?)/g, (all, currency, number) => new Intl.NumberFormat(document.documentElement.lang, { style: 'currency', currency }).format(number))
  .replace(/\b\d{4,}(\.\d+)?\b/g, number => credits(number));

/** "2,000 credits a month and 5,000 + 2 × 1,000 credits once" */
function choice({ monthly_credits, mix }) {
  const packs = mix.map(pack => (pack.count > 1 ? `${count(pack.count)} × ` : '') + credits(pack.credits)).join(' + ');
  return [monthly_credits && t.usage.monthly(credits(monthly_credits)), packs && t.usage.once(packs)].filter(Boolean).join(t.usage.and) || t.usage.nothing;
}
