// This month's usage compared with last month's, and its breakdown.
import { html, useState } from './preact.js';
import { useLoaded } from './api.js';
import { Chart } from './chart.js';
import { credits, lastMonth, month as monthName, words } from './format.js';

const BREAKDOWNS = ['workflow', 'feature', 'operation', 'user', 'consumer'];
const NONE = { workflow: 'No workflow', feature: 'No feature', user: 'No user' };

export function Usage({ api, moves, balance }) {
  const month = balance.as_of.slice(0, 7);
  const before = lastMonth(month);
  const days = useLoaded(() => Promise.all([month, before].map(of => api.get(`/usage?group_by=day&month=${of}`))), [api, month, moves]);
  return html`<section aria-labelledby="usage">
    <h2 id="usage">Usage in ${monthName(month)}</h2>
    ${days.value && html`<${Chart} month=${month} before=${before} days=${days.value} today=${balance.as_of} />`}
    <${Breakdown} api=${api} month=${month} moves=${moves} />
  </section>`;
}

function Breakdown({ api, month, moves }) {
  const [by, setBy] = useState('workflow');
  const { value: usage } = useLoaded(async () => ({ by, ...(await api.get(`/usage?group_by=${by}&month=${month}&limit=20`)) }), [api, month, by, moves]);
  const most = usage ? Math.max(...usage.groups.map(group => group.credits), 0) : 0;
  return html`
    <fieldset class="switch"><legend>Break down by</legend>
      ${BREAKDOWNS.map(name => html`<label>
        <input type="radio" name="by" value=${name} checked=${by === name} onChange=${() => setBy(name)} />
        <span>${words(name)}</span></label>`)}
    </fieldset>
    ${usage?.by === by && html`<div class="scroll" tabindex="0" role="region" aria-label=${`Usage by ${by}`}><table>
      <thead><tr><th>${words(by)}</th><th class="number">Credits</th><th class="number">Calls</th></tr></thead>
      <tbody>
        ${usage.groups.map(group => html`<tr key=${group.key}>
          <td>${group.key === null ? html`<em>${NONE[by] ?? 'None'}</em>` : group.key}
            <div class="share" aria-hidden="true" style=${{ width: `${(group.credits / most) * 100}%` }}></div></td>
          <td class="number">${credits(group.credits)}</td><td class="number">${credits(group.count)}</td></tr>`)}
        ${usage.other && html`<tr><td><em>All others</em></td>
          <td class="number">${credits(usage.other.credits)}</td><td class="number">${credits(usage.other.count)}</td></tr>`}
        ${!usage.groups.length && html`<tr><td colspan="3"><em>Nothing yet.</em></td></tr>`}
      </tbody>
      <tfoot><tr><th>Total</th><td class="number">${credits(usage.total)}</td><td class="number">${credits(usage.count)}</td></tr></tfoot>
    </table></div>`}`;
}
