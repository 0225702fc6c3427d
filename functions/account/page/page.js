// Workspace Settings → AI Credits. Each section loads its own data, and loads it again whenever credits have moved.
import { html, render, useEffect, useRef, useState } from './preact.js';
import { Api, readFragment, useLoaded } from './api.js';
import { AddCredits } from './add_credits.js';
import { Alerts } from './alerts.js';
import { AutoTopUp } from './auto_top_up.js';
import { Balance } from './balance.js';
import { History } from './history.js';
import { Invoices } from './invoices.js';
import { Ledger } from './ledger.js';
import { BlockedRuns } from './runs.js';
import { Usage } from './usage.js';
import { credits } from './format.js';
import './prompt.js';

/** The pause after a change, or after the tab becomes visible. It doubles up to the longest: some 45 calls in a quiet hour. */
const FIRST_PAUSE_MS = 2000;
const LONGEST_PAUSE_MS = 90_000;
/** The table's stream updates the usage shortly after the balance, so the sections load once more after this time. */
const FOLLOWS_AFTER_MS = 1500;

/** Polls the balance while the page is visible. `moves` increases whenever the sections have to load again. */
function useBalance(api) {
  const [seen, setSeen] = useState({ balance: null, problem: null, moves: 0 });
  useEffect(() => {
    let timer, follow, version, ended, pause = FIRST_PAUSE_MS;
    const look = async () => {
      clearTimeout(timer);
      if (document.hidden || ended) return;
      try {
        const balance = await api.get('/balance');
        const moved = balance.version !== version;
        version = balance.version;
        setSeen(was => ({ balance, problem: null, moves: was.moves + moved }));
        if (moved) {
          pause = FIRST_PAUSE_MS;
          clearTimeout(follow);
          follow = setTimeout(() => setSeen(was => ({ ...was, moves: was.moves + 1 })), FOLLOWS_AFTER_MS);
        }
      } catch (problem) {
        setSeen(was => ({ ...was, problem }));
        if (problem.status >= 400 && problem.status < 500 && problem.status !== 429) return;
      }
      timer = setTimeout(look, pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    };
    const lookAtOnce = () => {
      pause = FIRST_PAUSE_MS;
      look();
    };
    look();
    document.addEventListener('visibilitychange', lookAtOnce);
    return () => { ended = true; clearTimeout(timer); clearTimeout(follow); document.removeEventListener('visibilitychange', lookAtOnce); };
  }, [api]);
  return seen;
}

function Page({ api, workflows, manages }) {
  const { balance, problem, moves } = useBalance(api);
  const workspace = useLoaded(() => api.get(''), [api]).value;
  const catalog = useLoaded(() => api.catalog(), [api]).value;
  const said = useAdded(balance);
  if (!balance) return html`<p class=${problem ? 'problem' : 'quiet'} role="status">${problem ? tell(problem) : 'Loading …'}</p>`;
  const common = { api, moves, balance };
  return html`
    <header><p class="quiet">${workspace?.name ?? balance.workspace_id}</p><h1>AI Credits</h1></header>
    ${problem && html`<p class="problem" role="alert">${tell(problem)}</p>`}
    <p class="said" role="status">${said}</p>
    ${balance.exhausted && html`<ai-credits-prompt top-up-url=${manages ? '#add-credits' : ''}></ai-credits-prompt>`}
    <${Balance} balance=${balance} />
    <${Usage} ...${common} />
    ${manages && html`<${AddCredits} ...${common} catalog=${catalog} plan=${workspace?.plan} />`}
    <${BlockedRuns} ...${common} workflows=${workflows} />
    <${History} ...${common} />
    ${manages && html`<${Invoices} ...${common} />`}
    ${manages && html`<${AutoTopUp} ...${common} catalog=${catalog} />`}
    ${manages && html`<${Alerts} ...${common} />`}
    <${Ledger} ...${common} />
    <footer class="quiet">Times, days and months are UTC.</footer>`;
}

/** Returns a notice when credits were added. It compares available plus held credits: a released hold adds none. */
function useAdded(balance) {
  const before = useRef(null);
  const [said, say] = useState('');
  useEffect(() => {
    const owned = balance && Number(balance.available) + Number(balance.held);
    const added = before.current === null ? '0' : (owned - before.current).toFixed(6);
    if (added > 0) say(`${credits(added)} credits were added.`);
    before.current = owned;
  }, [balance?.version]);
  return said;
}

function tell(problem) {
  if (problem.status === 401) return 'You have been signed out. Open this page again from your settings.';
  if (problem.status) return problem.message;
  return 'The connection was lost. Trying again …';
}

const { token, workspace, ...given } = readFragment();
const paid = new URLSearchParams(location.search).get('top_up');
const main = document.getElementById('page');
if (token && workspace) {
  render(html`<${Page} api=${new Api(token, workspace)} ...${given} />`, main);
} else if (paid) {
  const done = paid === 'paid' ? 'Thank you. The credits are added as soon as the payment is confirmed.' : 'Nothing was bought.';
  render(html`<h1>AI Credits</h1><p role="status">${done} You can close this tab.</p>`, main);
} else {
  render(html`<h1>AI Credits</h1><p>Open this page from your workspace's settings.</p>`, main);
}
