// Add credits: packs through a checkout, tiers through a checkout or the stored payment method.
import { html, useEffect, useRef, useState } from './preact.js';
import { useLoaded } from './api.js';
import { credits, date, money } from './format.js';

const TOP_UP_NOTICES = {
  paid: what => `${what} were added.`,
  processing: what => `The payment for ${what} is on its way, which takes some days.`,
  failed: what => `The payment for ${what} failed. Nothing was added.`,
  expired: what => `The checkout for ${what} has expired. Nothing was charged.`,
};

export function AddCredits({ api, moves, balance, catalog, plan }) {
  const [state, setState] = useState({});
  const runs = Boolean(balance.subscription);
  // What doesn't run is not asked for: an empty answer is an error to a browser.
  const subscription = useLoaded(async () => (runs ? api.get('/subscription') : {}), [api, moves, runs]);
  const act = async (what, call) => {
    setState({ busy: what });
    try {
      const answer = await call();
      // A tier whose charge needs the person has its checkout under `payment_action`.
      const checkout = answer.checkout_url ?? answer.payment_action?.checkout_url;
      // Browsers may not let a page open a tab after a wait: the link is there as well.
      if (checkout) window.open(checkout, '_blank', 'noopener');
      setState({ checkout, what, topUp: answer.top_up_id, done: !checkout && what });
      subscription.reload();
    } catch (problem) {
      setState({ problem });
    }
  };
  // What became of the checkout: the webhook says so, and not the payer's return.
  const topUp = useLoaded(async () => (state.topUp ? api.get(`/top-ups/${state.topUp}`) : {}), [api, moves, state.topUp]);
  const key = useRef({});
  // The same order again, until it has an answer: a lost one is not made twice.
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
      ${state.checkout && !TOP_UP_NOTICES[topUp.value?.status] && html`<p class="notice">The checkout opens in a new tab; your credits show here once it is paid.
        ${' '}<a href=${state.checkout} target="_blank" rel="noopener noreferrer">Open the checkout</a></p>`}
      ${state.done && html`<p class="notice">Done: ${state.done}.</p>`}
    </div>
    <h3>Once</h3>
    <p class="quiet">Prepaid credits never expire, and are spent after what expires.</p>
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
      + (runs ? 'More takes effect now, for the rest of the period; less with the next period.' : 'A stored payment method is charged now.'),
    verb: 'Subscribe',
    run: () => act(`${credits(tier.monthly_credits)} credits every month`, () => api.put('/subscription', { tier: tier.tier })),
  });
  const cancel = () => ask({
    text: `The subscription ends on ${date(subscription.renews_at)}, and its credits with it.`,
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
  if (payment_action) return html`A payment has to be confirmed. <a href=${payment_action.checkout_url} target="_blank" rel="noopener noreferrer">Confirm it</a>`;
  if (pending_payment) return 'A payment is on its way, which takes some days.';
  if (status === 'past_due') return `The last charge was declined.${next_attempt_at ? ` It is tried again on ${date(next_attempt_at)}.` : ''}`;
  if (!status) return 'A month starts with a fresh allocation, which is spent first.';
  if (cancel_at_period_end) return `The subscription ends on ${date(renews_at)}.`;
  return `Renews on ${date(renews_at)}${next_tier ? `, then as ${next_tier}` : ''}.`;
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
