// Runs that failed for insufficient credits since credits were last added. Only a person can start them again.
import { html, useState } from './preact.js';
import { useLoaded } from './loading.js';
import { Credits, Section, Table } from './ui.js';
import { time, words } from './format.js';
import { t } from './texts.js';

const SHOWN = 5;
const ADDITIONS = ['top_up', 'allocation', 'grant'];

/** The newest run that was dismissed. It is forgotten with the page. */
let dismissed = null;

export function BlockedRuns({ app, runs }) {
  const [all, setAll] = useState(false);
  const [, hide] = useState(null);
  const failed = runs.value?.runs ?? [];
  const added = useLoaded(() => lastAddition(app), failed.length ? 'added' : null, app.moves);
  const blocked = added.value ? failed.filter(run => run.ended_at > added.value.at) : [];
  if (!blocked.length || blocked[0].run_id === dismissed) return null;
  const dismiss = () => {
    dismissed = blocked[0].run_id;
    hide(dismissed);
  };
  const shown = all ? blocked : blocked.slice(0, SHOWN);
  return html`<${Section} id="blocked" wide=${true} title=${t.blocked.title(blocked.length)} tools=${html`<button class="plain" onClick=${dismiss}>${t.dismiss}</button>`}>
    <p class="quiet">${t.blocked.explained} ${app.balance?.exhausted === false && t.blocked.again}</p>
    <${Table} label=${t.blocked.list} head=${t.blocked.head}>${shown.map(run => html`<tr key=${run.run_id}>
      <td><${Workflow} app=${app} run=${run} /></td><td>${time(run.ended_at)}</td><td>${words(run.trigger)}</td><td>${run.failure?.step_id}</td>
      <td class="number"><${Credits} of=${run.failure?.required} /></td><td class="number"><${Credits} of=${run.failure?.available} /></td></tr>`)}</${Table}>
    ${shown.length < blocked.length && html`<button class="plain" onClick=${() => setAll(true)}>${t.more}</button>`}
  </${Section}>`;
}

function Workflow({ app, run }) {
  const { workflows } = app.session;
  if (!workflows) return html`<b title=${run.run_id}>${run.workflow_id}</b>`;
  return html`<a href=${workflows + encodeURIComponent(run.workflow_id)} target=${app.session.framed ? '_top' : undefined} title=${run.run_id}>${run.workflow_id}</a>`;
}

/** When credits were last added, by any of the ledger's kinds that add some. */
async function lastAddition({ api, moves }) {
  const pages = await Promise.all(ADDITIONS.map(kind => api.cached(`/ledger?limit=1&kind=${kind}`, moves)));
  return { at: pages.flatMap(page => page.entries.map(entry => entry.at)).sort().at(-1) ?? '' };
}
