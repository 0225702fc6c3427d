// The groups of a view, the largest first. A group opens what is within it.
import { html } from './preact.js';
import { Credits, Table } from './ui.js';
import { count, money, percent } from './format.js';
import { t } from './texts.js';

export function Groups({ usage, by, open, price }) {
  const { groups, other, total } = usage;
  const name = t.usage.groups[by];
  if (!groups.length) return html`<p class="quiet">${t.usage.none}</p>`;
  const row = (key, label, group) => html`<tr key=${key}><td>${label}<div class="share" aria-hidden="true"><i style=${{ width: `${(group.credits / total) * 100 || 0}%` }}></i></div></td>
    <td class="number"><${Credits} of=${group.credits} /></td><td class="number">${percent(group.credits / total || 0)}</td>
    ${price && html`<td class="number">${about(group.credits, price)}</td>`}<td class="number">${count(group.count)}</td></tr>`;
  return html`<div class=${price ? 'groups priced' : 'groups'}><${Table} label=${t.usage.list(name)} head=${price ? t.usage.head(name) : t.usage.headPlain(name)}>
    ${groups.map(group => row(group.key, nameOf(group.key, by, open), group))}
    ${other && row('(others)', t.usage.others, other)}</${Table}></div>`;
}

function nameOf(key, by, open) {
  if (key === null) return html`<em>${t.none[by]}</em>`;
  return open ? html`<button class="link" onClick=${() => open(key)} title=${t.usage.open(key)}>${key}</button>` : key;
}

const about = (amount, { price, credits }) => t.usage.about(money({ ...price, amount: Math.round((price.amount * amount) / credits) }));
