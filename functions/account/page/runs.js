// Runs that failed for insufficient credits. Only a person can start them again.
import { html, useEffect, useState } from './preact.js';
import { useLoaded } from './api.js';
import { credits, time } from './format.js';

const SHOWN = 5;

export function BlockedRuns({ api, moves, balance, workflows }) {
  const [more, setMore] = useState({ runs: [], cursor: undefined, all: false });
  const { value: page } = useLoaded(() => api.get('/runs?status=failed'), [api, moves]);
  useEffect(() => setMore({ runs: [], cursor: undefined, all: false }), [page?.runs[0]?.run_id]);
  const cursor = more.cursor === undefined ? page?.next_cursor : more.cursor;
  const runs = [...(page?.runs ?? []), ...more.runs];
  const shown = more.all ? runs : runs.slice(0, SHOWN);
  const show = async () => {
    if (shown.length < runs.length || !cursor) return setMore({ ...more, all: true });
    const next = await api.get(`/runs?status=failed&cursor=${cursor}`);
    setMore({ runs: [...more.runs, ...next.runs], cursor: next.next_cursor, all: true });
  };
  return html`<section aria-labelledby="blocked">
    <h2 id="blocked">Blocked runs</h2>
    ${!runs.length && html`<p class="quiet">${cursor ? 'None of the latest runs has' : 'No run has'} failed for insufficient credits.</p>`}
    ${runs.length > 0 && html`
      <p class="quiet">These runs failed for insufficient credits. They are not retried automatically.
        ${!balance.exhausted ? ' Credits are available now: start the runs again that you still need.' : ' Add credits, then start them again.'}</p>
      <div class="scroll" tabindex="0" role="region" aria-label="List of blocked runs"><table>
        <thead><tr><th>When</th><th>Workflow</th><th>Started by</th><th>Step</th><th class="number">Needed</th><th class="number">Available</th></tr></thead>
        <tbody>${shown.map(run => html`<tr key=${run.run_id}>
          <td>${time(run.ended_at)}</td>
          <td>${workflows ? html`<a href=${workflows + encodeURIComponent(run.workflow_id)}>${run.workflow_id}</a>` : run.workflow_id}
            <small>${run.run_id}</small></td>
          <td>${run.trigger}</td><td>${run.failure?.step_id}</td>
          <td class="number">${credits(run.failure?.required)}</td><td class="number">${credits(run.failure?.available)}</td></tr>`)}</tbody>
      </table></div>`}
    ${(shown.length < runs.length || cursor) && html`<button class="plain" onClick=${show}>Show more</button>`}
  </section>`;
}
