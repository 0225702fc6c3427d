// The ledger: every movement of credits, newest first, filtered by kind and as a CSV file.
import { html, useEffect, useState } from './preact.js';
import { useResponse } from './loading.js';
import { Failed, Section, Table, download, useAction } from './ui.js';
import { credits, exactly, time, words } from './format.js';
import { t } from './texts.js';

const KINDS = ['debit', 'hold_settled', 'debit_refund', 'top_up', 'allocation', 'grant', 'expiry', 'void', 'claw_back', 'claw_back_reversed', 'invoiced'];

export function Ledger({ app }) {
  const [kind, setKind] = useState('');
  const [older, setOlder] = useState(null);
  const action = useAction();
  const filter = kind && `&kind=${kind}`;
  const first = useResponse(app, `/ledger?limit=10${filter}`);
  const newest = first.value?.entries[0]?.entry_id;
  useEffect(() => setOlder(null), [kind, newest]);
  const entries = [...(first.value?.entries ?? []), ...(older?.entries ?? [])];
  const cursor = older ? older.cursor : first.value?.next_cursor;
  const more = () => action.run(async () => {
    const next = await app.api.get(`/ledger?limit=50&cursor=${cursor}${filter}`);
    setOlder({ entries: [...(older?.entries ?? []), ...next.entries], cursor: next.next_cursor });
  });
  const save = () => action.run(async () => download(`ledger-${app.session.workspace}.csv`, await app.api.csv(`/ledger.csv?limit=10000${filter}`)));
  return html`<${Section} id="ledger" title=${t.ledger.title} of=${first} lines=${10} wide=${true} tools=${html`<span class="actions">
      <label class="inline"><span class="unseen">${t.ledger.kind}</span><select value=${kind} onChange=${event => setKind(event.target.value)}>
        <option value="">${t.ledger.all}</option>${KINDS.map(name => html`<option key=${name} value=${name}>${t.ledger.kinds[name]}</option>`)}</select></label>
      <button class="plain" disabled=${action.busy} onClick=${save}>${t.csv}</button></span>`}>
    ${() => (entries.length ? html`<${Table} label=${t.ledger.title} head=${t.ledger.head}>${entries.map(entry => html`<${Entry} key=${entry.entry_id} app=${app} entry=${entry} />`)}</${Table}>`
      : html`<p class="quiet">${cursor ? t.ledger.noneLately : t.ledger.none}</p>`)}
    ${action.problem && html`<${Failed} of=${{ problem: action.problem, reload: more }} />`}
    ${cursor && html`<button class="plain" disabled=${action.busy} onClick=${more}>${t.more}</button>`}
  </${Section}>`;
}

function Entry({ app, entry }) {
  const plus = entry.credits > 0;
  return html`<tr><td>${time(entry.at)}</td><td>${t.ledger.kinds[entry.kind] ?? words(entry.kind)} <small>${aboutOf(entry, app.catalog)}</small></td>
    <td class=${plus ? 'number plus' : 'number'} title=${exactly(entry.credits)}>${plus ? '+' : ''}${credits(entry.credits)}</td></tr>`;
}

/** What an entry is for, in names: the pack and the tier by their credits, the call by its operation and its consumer. */
function aboutOf({ consumer = {}, ...entry }, catalog) {
  const pack = entry.pack && catalog?.packs.find(sold => sold.pack === entry.pack);
  const tier = entry.tier && catalog?.tiers.find(sold => sold.tier === entry.tier);
  const about = [
    entry.lines && t.ledger.calls(entry.lines), entry.operations && Object.keys(entry.operations).join(', '), entry.operation, entry.model,
    pack && t.amount(credits(pack.credits)), tier && t.plans.monthly(credits(tier.monthly_credits)), entry.reason, entry.month,
    consumer.workflow_id, consumer.step_id, consumer.feature, consumer.user_id, consumer.job_id,
  ];
  return about.filter(Boolean).join(' · ');
}
