// A payment on the provider's page: opens it in another tab, waits for the outcome, and says it where the person looks.
import { html, useEffect, useRef, useState } from './preact.js';
import { Dialog } from './ui.js';
import { credits } from './format.js';
import { t } from './texts.js';

/** The pauses between two looks at the outcome: short at first, longer when the person takes their time. */
const PAUSES_MS = [1500, 1500, 2000, 2000, 3000, 3000, 5000, 5000, 5000, 10_000, 10_000, 15_000];

/** How the outcome of each kind of checkout is read: its text once it is known, and nothing before. */
const OUTCOMES = {
  async topUp(app, { top_up_id }) {
    const { status, credits: added } = await app.api.get(`/top-ups/${top_up_id}`);
    return status === 'open' ? null : { good: status === 'paid', text: t.checkout.topUp[status]?.(credits(added)) ?? t.checkout.topUp.failed(credits(added)) };
  },
  async subscription(app) {
    const now = await app.api.get('/subscription');
    if (now.pending_payment === 'processing') return { text: t.checkout.processing };
    const done = now.status === 'active' && !now.payment_action;
    return done ? { good: true, text: t.checkout.subscribed(credits(now.monthly_credits)) } : null;
  },
  async method(app, _, before) {
    const { payment_method } = await app.api.get('/payment-method');
    const changed = payment_method && JSON.stringify(payment_method) !== JSON.stringify(before);
    return changed ? { good: true, text: t.checkout.method(t.method(payment_method)) } : null;
  },
};

/**
 * Returns `open(title, start, kind, before)`, which calls `start` for a checkout and opens it, and `dialog`, which the
 * caller renders. `kind` names how the outcome is read; `before` is what the outcome is compared with.
 */
export function useCheckout(app) {
  const [state, setState] = useState(null);
  const open = async (title, start, kind, before) => {
    setState({ title, kind, before, phase: 'opening' });
    try {
      const order = await start();
      const { checkout_url: url } = order;
      const tab = window.open(url, '_blank');
      if (tab) tab.opener = null;
      setState({ title, kind, before, order, url, phase: 'waiting', blocked: !tab });
    } catch (problem) {
      setState({ title, phase: 'failed', problem, retry: () => open(title, start, kind, before) });
    }
  };
  const close = () => {
    setState(null);
    app.changed();
  };
  const finish = outcome => {
    setState(was => was && { ...was, phase: 'done', outcome });
    app.changed();
  };
  return { open, busy: state !== null, dialog: state && html`<${Waiting} app=${app} state=${state} close=${close} finish=${finish} />` };
}

function Waiting({ app, state, close, finish }) {
  const { phase, url, blocked, outcome, problem } = state;
  const end = useRef(null);
  useOutcome(app, state, finish);
  useEffect(() => { if (phase === 'done') end.current?.focus(); }, [phase]);
  return html`<${Dialog} label=${state.title} close=${close}>
    <div role="status" aria-live="polite">
      ${phase === 'opening' && html`<p class="waiting">${t.checkout.opening}</p>`}
      ${phase === 'waiting' && html`<p class="waiting">${blocked ? t.checkout.blocked : t.checkout.waiting}</p>`}
      ${phase === 'failed' && html`<p class="error">${t.problem(problem)}</p>`}
      ${phase === 'done' && html`<p class=${outcome.good ? 'success' : ''}>${outcome.text}</p>
        ${outcome.good && app.balance && html`<p class="quiet">${t.checkout.balance(credits(app.balance.spendable))}</p>`}`}
    </div>
    <p class="actions">
      ${phase === 'waiting' && html`<a class=${blocked ? 'button' : 'button plain'} href=${url} target="_blank" rel="noopener noreferrer">${blocked ? t.checkout.go : t.checkout.again}</a>`}
      ${phase === 'failed' && html`<button onClick=${state.retry}>${t.failed.retry}</button>`}
      <button ref=${end} class=${phase === 'done' ? '' : 'plain'} onClick=${close}>${phase === 'done' ? t.done : t.close}</button>
    </p></${Dialog}>`;
}

/** Looks at the outcome again and again while the page is visible, and at once when the person comes back to it. */
function useOutcome(app, { phase, kind, order, before }, finish) {
  useEffect(() => {
    if (phase !== 'waiting') return undefined;
    let timer, ended, turn = 0;
    const look = async () => {
      clearTimeout(timer);
      if (ended || document.hidden) return;
      const outcome = await OUTCOMES[kind](app, order, before).catch(() => null);
      if (ended) return;
      if (outcome) return finish(outcome);
      timer = setTimeout(look, PAUSES_MS[Math.min(turn++, PAUSES_MS.length - 1)]);
    };
    timer = setTimeout(look, PAUSES_MS[0]);
    document.addEventListener('visibilitychange', look);
    return () => { ended = true; clearTimeout(timer); document.removeEventListener('visibilitychange', look); };
  }, [phase]);
}
