// Add credits: packs through a checkout, tiers through a checkout or the stored payment method.
import { html, useEffect, useRef, useState } from './preact.js';
import { useLoaded } from './api.js';
import { credits, date, money } from './format.js';

const TOP_UP_NOTICES = {
  paid: what => `${what} were added.`,
  processing: what => `The payment for ${what} is being processed, which takes a few days.`,
  failed: what => `The payment for ${what} failed. Nothing was added.`,
  expired: what => `The checkout for ${what} has expired. Nothing was charged.`,
};

export function AddCredits({ api, moves, balance, catalog, plan }) {
  const [state, setState] = useState({});
  const runs = Boolean(balance.subscription);
  // Without a subscription the call would answer 404, which the browser would log as an error.
  const subscription = useLoaded(async () => (runs ? api.get('/subscription') : {}), [api, moves, runs]);
  const act = async (what, call) => {
    setState({ busy: what });
    try {
      const answer = await call();
      // If the person has to confirm the charge of a tier, its checkout is under `payment_action`.
      const checkout = answer.checkout_url ?? answer.payment_action?.checkout_url;
      // The browser may block a tab that a page opens after a wait, so the notice has a link as well.
      if (checkout) window.open(checkout, '_blank', 'noopener');
      setState({ checkout, what, topUp: answer.top_up_id, done: !checkout && what });
      subscription.reload();
    } catch (problem) {
      setState({ problem });
    }
  };
  // The webhook decides whether the checkout is paid, not the payer's return from it.
  const topUp = useLoaded(async () => (state.topUp ? api.get(`/top-ups/${state.topUp}`) : {}), [api, moves, state.topUp]);
  const key = useRef({});
  // Keeps the key until the call has a response: if the response is lost, the next click repeats the same order.
  const buy = pack => act(`${credits(pack.credits)} credits`, async () => {
    key.current[pack.pack] ??= crypto.randomUUID();
    const opened = await api.post('/top-ups', { pack: pack.pack }, key.current[pack.pack]);
    delete key.current[pack.pack];
    return opened;
  });
  const terms = catalog?.plans.find(known => known.plan === plan);
  return html`<section aria-labelledby="add-credits">
    <h2 id="add-credits" tabindex="-1">Add credits</h2>
    <div role="status">
      ${state.problem && html`<p class="problem">${state.problem.message}</p>`}
      ${TOP_UP_NOTICES[topUp.value?.status] && html`<p class="notice">${TOP_UP_NOTICES[topUp.value.status](state.what)}</p>`}
      ${state.checkout && !TOP_UP_NOTICES[topUp.value?.status] && html`<p class="notice">The checkout opens in a new tab. Your credits appear here once you have paid.
        ${' '}<a href=${state.checkout} target="_blank" rel="noopener noreferrer">Open the checkout</a></p>`}
      ${state.done && html`<p class="notice">Done: ${state.done}.</p>`}
    </div>
    <h3>Once</h3>
    <p class="quiet">Prepaid credits never expire. Credits that expire are spent first.</p>
    <ul class="offers">${catalog?.packs.map(pack => html`<li>
      <b>${credits(pack.credits)} credits</b><span>${money(pack.price)}</span>
      <button disabled=${state.busy} onClick=${() => buy(pack)} aria-label=${`Buy ${credits(pack.credits)} credits`}>Buy</button></li>`)}
    </ul>
    <h3>Every month</h3>
    ${terms?.subscription === false
      ? html`<p class="quiet">Your plan has prepaid credits only.</p>`
      : html`<${Tiers} api=${api} tiers=${catalog?.tiers ?? []} subscription=${subscription.value} busy=${state.busy} act=${act} />`}
  </section>`;
}

function Tiers({ api, tiers, subscription, busy, act }) {
  const [asked, ask] = useState(null);
  const runs = ['active', 'past_due'].includes(subscription?.status);
  const choose = tier => ask({
    text: `${credits(tier.monthly_credits)} credits every month for ${money(tier.price)}. `
      + (runs ? 'An upgrade takes effect now, for the rest of the period. A downgrade takes effect with the next period.' : 'If a payment method is stored, it is charged now.'),
    verb: 'Subscribe',
    run: () => act(`${credits(tier.monthly_credits)} credits every month`, () => api.put('/subscription', { tier: tier.tier })),
  });
  const cancel = () => ask({
    text: `The subscription ends on ${date(subscription.renews_at)}. Its remaining credits expire then.`,
    verb: 'Cancel the subscription',
    run: () => act('the subscription ends with its period', () => api.remove('/subscription')),
  });
  return html`
    ${subscription && html`<p class="quiet">${standing(subscription)}</p>`}
    <ul class="offers">${tiers.map(tier => {
      const current = runs && subscription.tier === tier.tier;
      return html`<li class=${current ? 'current' : ''}>
        <b>${credits(tier.monthly_credits)} a month</b><span>${money(tier.price)}</span>
        <button disabled=${busy || (current && !subscription.cancel_at_period_end && !subscription.next_tier)} onClick=${() => choose(tier)}
          aria-label=${current ? 'Current tier' : `Subscribe to ${credits(tier.monthly_credits)} credits a month`}>${current ? 'Current' : 'Subscribe'}</button></li>`;
    })}</ul>
    ${runs && !subscription.cancel_at_period_end && html`<button class="plain" onClick=${cancel}>Cancel the subscription</button>`}
    ${asked && html`<${Asked} ...${asked} close=${() => ask(null)} />`}`;
}

function standing({ status, payment_action, pending_payment, renews_at, cancel_at_period_end, next_tier, next_attempt_at }) {
  if (payment_action) return html`A payment needs your confirmation. <a href=${payment_action.checkout_url} target="_blank" rel="noopener noreferrer">Confirm it</a>`;
  if (pending_payment) return 'A payment is being processed, which takes a few days.';
  if (status === 'past_due') return `The last charge was declined.${next_attempt_at ? ` The next attempt is on ${date(next_attempt_at)}.` : ''}`;
  if (!status) return 'Each month starts with a new allocation, which is spent first.';
  if (cancel_at_period_end) return `The subscription ends on ${date(renews_at)}.`;
  return `Renews on ${date(renews_at)}${next_tier ? `, then changes to ${next_tier}` : ''}.`;
}

function Asked({ text, verb, run, close }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog ref=${dialog} onClose=${close} aria-label=${verb}>
    <p>${text}</p>
    <button onClick=${() => { dialog.current.close(); run(); }}>${verb}</button>
    <button class="plain" onClick=${() => dialog.current.close()}>Not now</button>
  </dialog>`;
}
