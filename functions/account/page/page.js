// Workspace Settings → AI Credits: the session, the tabs, and what needs action on all of them.
import { html, render, useEffect, useState } from './preact.js';
import { Api } from './api.js';
import { useBalance, useResponse } from './loading.js';
import { followHeight, setBrand } from './brand.js';
import { Overview } from './overview.js';
import { setFormats } from './format.js';
import { linkTo, useRoute } from './router.js';
import { Session } from './session.js';
import { Notices } from './notices.js';
import { Dialog, Skeleton } from './ui.js';
import { loadLanguage, t } from './texts.js';

/** The tabs besides the overview are loaded when they are opened. */
const TABS = {
  overview: async () => Overview,
  usage: async () => (await import('./usage.js')).UsageTab,
  billing: async () => (await import('./billing.js')).Billing,
  alerts: async () => (await import('./alerts.js')).Alerts,
};

const session = new Session();
const api = new Api(session);
const zone = setFormats({ locale: session.settings.locale, timeZone: session.settings['time-zone'] });

/** The whole page: with a token the tabs, without one how to get it. */
function Root() {
  const [state, setState] = useState(session.token ? 'open' : session.renewable ? 'asking' : 'closed');
  const ask = () => {
    setState('asking');
    session.renew().then(renewed => renewed || setState('closed'));
  };
  useEffect(() => {
    const open = () => setState('open');
    const ended = () => setState(was => (was === 'open' ? 'ended' : was));
    addEventListener('ai-credits:session', open);
    addEventListener('ai-credits:ended', ended);
    if (state === 'asking') ask();
  }, []);
  if (state === 'asking') return html`<${Skeleton} lines=${8} />`;
  if (state === 'closed') return html`<${Closed} retry=${session.renewable && ask} />`;
  if (!session.workspace) return html`<${Message} text=${t.session.noWorkspace} />`;
  return html`<${Page} />${state === 'ended' && html`<${Ended} close=${() => setState('open')} />`}`;
}

function Closed({ retry }) {
  const paid = new URLSearchParams(location.search).get('top_up');
  const text = paid ? (paid === 'paid' ? t.session.paid : t.session.unpaid) : retry ? t.session.noAnswer : t.session.closed;
  return html`<${Message} text=${text} retry=${!paid && retry} />`;
}

function Message({ text, retry }) {
  return html`<header><h1>${t.title}</h1></header><section class="message"><p role="status">${text}</p>
    ${retry && html`<button onClick=${retry}>${t.failed.retry}</button>`}
    ${session.app && html`<a class="button" href=${session.app} target=${session.framed ? '_top' : undefined}>${t.session.open}</a>`}</section>`;
}

/** Covers the page, so that what was typed is there when the session goes on. */
function Ended({ close }) {
  return html`<${Dialog} label=${t.session.endedTitle} close=${close}>
    <p>${t.session.ended}</p>
    <p class="actions">${session.renewable && html`<button onClick=${() => session.renew()}>${t.failed.retry}</button>`}
      ${session.app && html`<a class="button" href=${session.app} target="_blank" rel="noopener">${t.session.open}</a>`}
      <button class="plain" onClick=${close}>${t.close}</button></p></${Dialog}>`;
}

function Page() {
  const route = useRoute();
  const seen = useBalance(api);
  const still = { api, moves: 0 };
  const profile = useResponse(still, '').value;
  const catalog = useResponse(still, '/v1/catalog');
  const { balance, problem, moves } = seen;
  const now = balance?.as_of ?? (problem ? new Date().toISOString() : null);
  const app = {
    api, session, balance, moves, profile, now,
    catalog: catalog.value, catalogSeen: catalog,
    seen: { value: balance, problem, reload: seen.look },
    changed: seen.changed,
    manages: session.manages,
    enterprise: profile?.plan === 'enterprise',
    link: (path, view) => linkTo(session, path, view),
  };
  if (!balance && [403, 404].includes(problem?.status)) return html`<${Message} text=${t.problem(problem)} />`;
  return html`
    <${Header} app=${app} tab=${route.tab} />
    <${Notices} app=${app} tab=${route.tab} at=${seen.at} />
    <${Tab} app=${app} route=${route} />
    <footer>${t.footer(zone)}</footer>`;
}

function Header({ app, tab }) {
  const { logo } = session.settings;
  return html`<header>
    ${logo && html`<img src=${logo} alt="" height="32" />`}
    <div><h1>${t.title}</h1><p class="quiet">${app.profile?.name ?? session.workspace}${app.profile && html` · ${t.plan(app.profile.plan)}`}</p></div>
    <nav aria-label=${t.title}>${Object.keys(TABS).map(name => html`<a key=${name} href=${app.link(name)} aria-current=${name === tab ? 'page' : undefined}>${t.tabs[name]}</a>`)}</nav>
  </header>`;
}

function Tab({ app, route }) {
  const name = TABS[route.tab] ? route.tab : 'overview';
  const [loaded, setLoaded] = useState({ overview: Overview });
  const [failed, setFailed] = useState(null);
  const load = () => TABS[name]().then(tab => {
    setLoaded(was => ({ ...was, [name]: tab }));
    setFailed(null);
  }, () => setFailed({ problem: { status: 0 }, reload: load }));
  useEffect(() => { if (!loaded[name]) load(); }, [name]);
  useEffect(() => { document.title = `${t.tabs[name]} · ${t.title}`; }, [name]);
  const Shown = loaded[name];
  if (Shown) return html`<${Shown} key=${name} app=${app} route=${route} />`;
  return html`<section>${failed ? html`<p role="status">${t.problem(failed.problem)}</p><button class="plain" onClick=${failed.reload}>${t.failed.retry}</button>` : html`<${Skeleton} lines=${10} />`}</section>`;
}

const main = document.getElementById('page');
setBrand(session.settings);
followHeight(main, session);
await loadLanguage(session.settings.locale);
main.textContent = '';
render(html`<${Root} />`, main);
