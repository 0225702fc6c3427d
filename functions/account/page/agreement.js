// An Enterprise workspace: what its agreement gives, and its invoices. Nothing is bought here.
import { html } from './preact.js';
import { useResponse } from './loading.js';
import { Credits, Section, Table } from './ui.js';
import { credits, date, fullDate, money, month as monthName, words } from './format.js';
import { t } from './texts.js';

export function Agreement({ app }) {
  return html`<${Terms} app=${app} /><${Invoices} app=${app} />`;
}

function Terms({ app: { balance, seen } }) {
  return html`<${Section} id="agreement" title=${t.agreement.title} of=${seen} lines=${4} wide=${true}>
    ${() => {
      const commitment = balance.grants.filter(grant => grant.kind === 'commitment');
      return html`<dl class="facts">
        ${commitment.map(grant => html`<div key=${grant.grant_id}><dt>${t.agreement.commitment}</dt><dd>${t.agreement.left(credits(grant.remaining), credits(grant.granted), date(grant.expires_at))}</dd></div>`)}
        ${Number(balance.credit_limit) > 0 && html`<div><dt>${t.agreement.limit}</dt><dd>${t.amount(credits(balance.credit_limit))}</dd></div>`}</dl>
        <p class="quiet">${t.agreement.explained}</p>`;
    }}
  </${Section}>`;
}

function Invoices({ app }) {
  const invoices = useResponse(app, '/invoices');
  return html`<${Section} id="invoices" title=${t.invoices.title} of=${invoices} lines=${4} wide=${true}>
    ${({ invoices: issued }) => (issued.length ? issued.map(invoice => html`<${Invoice} key=${invoice.invoice_id} invoice=${invoice} />`) : html`<p class="quiet">${t.invoices.none}</p>`)}
  </${Section}>`;
}

function Invoice({ invoice }) {
  const name = monthName(invoice.month);
  return html`<details class="invoice">
    <summary><b>${name}</b> <span class="nowrap">${money(invoice.total)}</span> <span class=${`chip ${invoice.status}`}>${words(invoice.status)}</span> <small>${invoice.number ?? t.invoices.unnumbered}</small></summary>
    <${Table} label=${t.invoices.of(name)} head=${t.invoices.head}>${invoice.lines.map(line => html`<tr><td>${line.description}</td>
      <td class="number"><${Credits} of=${line.credits} /></td><td class="number">${money({ ...invoice.total, amount: line.amount })}</td></tr>`)}</${Table}>
    <p class="quiet">${t.invoices.issued(fullDate(invoice.issued_at))} ${invoice.note}</p>
  </details>`;
}
