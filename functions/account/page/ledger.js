// The ledger: every movement of credits, newest first, filtered by kind and as a CSV file.
import { html, useEffect, useState } from './preact.js';
import { useLoaded } from './api.js';
import { credits, time, words } from './format.js';

const KINDS = ['debit', 'hold_settled', 'debit_refund', 'top_up', 'allocation', 'grant', 'expiry', 'void', 'claw_back', 'claw_back_reversed', 'invoiced'];

export function Ledger({ api, moves, balance }) {
  const [kind, setKind] = useState('');
  const [more, setMore] = useState(null);
  const [problem, setProblem] = useState(null);
  const filter = kind && `&kind=${kind}`;
  const { value: page } = useLoaded(async () => ({ kind, ...(await api.get(`/ledger?limit=25${filter}`)) }), [api, kind, moves]);
  const newest = page?.entries[0]?.entry_id;
  useEffect(() => setMore(null), [kind, newest]);
  const entries = [...(page?.entries ?? []), ...(more?.entries ?? [])];
  const cursor = more ? more.cursor : page?.next_cursor;
  const show = async () => {
    const next = await api.get(`/ledger?limit=100&cursor=${cursor}${filter}`);
    setMore({ entries: [...(more?.entries ?? []), ...next.entries], cursor: next.next_cursor });
  };
  const save = () => api.csv(`/ledger.csv?limit=10000${filter}`).then(file => {
    const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(file), download: `ledger-${balance.workspace_id}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    setProblem(null);
  }, setProblem);
  return html`<section aria-labelledby="ledger">
    <h2 id="ledger">Ledger</h2>
    <div class="tools">
      <label>Kind <select value=${kind} onChange=${event => setKind(event.target.value)}>
        <option value="">All</option>${KINDS.map(name => html`<option value=${name}>${words(name)}</option>`)}
      </select></label>
      <button class="plain" onClick=${save}>Download as CSV</button>
    </div>
    ${problem && html`<p class="problem" role="alert">${problem.message}</p>`}
    <div class="scroll" tabindex="0" role="region" aria-label="Ledger entries"><table>
      <thead><tr><th>When</th><th>What</th><th class="number">Credits</th></tr></thead>
      <tbody>
        ${entries.map(entry => html`<tr key=${entry.entry_id}><td>${time(entry.at)}</td>
          <td>${words(entry.kind)} <small>${whatOf(entry)}</small></td><td class=${entry.credits > 0 ? 'number plus' : 'number'}>${entry.credits > 0 ? '+' : ''}${credits(entry.credits)}</td></tr>`)}
        ${page && !entries.length && html`<tr><td colspan="3"><em>${cursor ? 'None among the latest entries.' : 'Nothing yet.'}</em></td></tr>`}
      </tbody>
    </table></div>
    ${cursor && html`<button class="plain" onClick=${show}>Show more</button>`}
  </section>`;
}

function whatOf({ consumer = {}, ...entry }) {
  const calls = entry.lines && `${entry.lines} calls: ${Object.keys(entry.operations).join(', ')}`;
  const about = [calls, entry.operation, entry.model, entry.pack, entry.tier, entry.reason, entry.payment_id, entry.month];
  const who = [consumer.workflow_id, consumer.step_id, consumer.feature, consumer.user_id, consumer.job_id];
  return [...about, ...who].filter(Boolean).join(' · ');
}
