// The monthly subscription: what it is, its next charge, and changing it. Each change shows what it costs before it is made.
import { html, useState } from './preact.js';
import { useResponse } from './loading.js';
import { ChangeTier, CancelPlan } from './plan_change.js';
import { useCheckout } from './checkout.js';
import { Section } from './ui.js';
import { credits, date, money, perThousand } from './format.js';
import { t } from './texts.js';

export function Plan({ app, method }) {
  const { catalog, profile } = app;
  const subscription = useSubscription(app);
  const [asked, ask] = useState(null);
  const checkout = useCheckout(app);
  const terms = catalog?.plans.find(known => known.plan === profile?.plan);
  const of = { value: subscription.value && catalog && profile, problem: subscription.problem ?? app.catalogSeen.problem, reload: () => { subscription.reload(); app.catalogSeen.reload(); } };
  const close = () => {
    ask(null);
    app.changed();
  };
  return html`<${Section} id="plan" title=${t.plans.title} of=${of} lines=${6} wide=${true}>
    ${() => (terms?.subscription === false ? html`<p class="quiet">${t.plans.prepaidOnly}</p>` : html`
      <${Standing} subscription=${subscription.value} method=${method.value?.payment_method} />
      <${Tiers} tiers=${catalog.tiers} subscription=${subscription.value} ask=${ask} />`)}
    ${asked?.tier && html`<${ChangeTier} app=${app} tier=${asked.tier} subscription=${subscription.value} checkout=${checkout} close=${close} />`}
    ${asked?.cancel && html`<${CancelPlan} app=${app} subscription=${subscription.value} close=${close} />`}
    ${checkout.dialog}
  </${Section}>`;
}

/** The subscription, or `{}` if the workspace never had one. */
function useSubscription(app) {
  const asked = useResponse(app, '/subscription');
  const none = asked.problem?.status === 404;
  return none ? { ...asked, value: {}, problem: null } : asked;
}

const runs = subscription => ['active', 'past_due'].includes(subscription.status);

/** What is subscribed to, and what is charged next with what. */
function Standing({ subscription, method }) {
  const { monthly_credits, price, renews_at, cancel_at_period_end, next_charge, next_tier, status } = subscription;
  if (!runs(subscription)) return html`<p class="lead">${t.plans.none}</p>`;
  return html`<p class="lead"><b class="nowrap">${t.plans.monthly(credits(monthly_credits))}</b> <span class="nowrap">${t.plans.for(money(price))}</span></p>
    <p>${status === 'past_due' ? t.plans.pastDue : cancel_at_period_end ? t.plans.ends(date(renews_at))
      : next_charge && t.plans.next(money(next_charge), date(next_charge.at), method && t.method(method), next_tier && credits(next_charge.credits))}</p>`;
}

function Tiers({ tiers, subscription, ask }) {
  const active = runs(subscription);
  return html`<ul class="offers">${tiers.map(tier => {
    const current = active && subscription.tier === tier.tier;
    const settled = current && !subscription.cancel_at_period_end && !subscription.next_tier;
    const next = active && subscription.next_tier === tier.tier;
    const verb = current ? t.plans.keep : active ? t.plans.change : t.plans.subscribe;
    return html`<li key=${tier.tier} class=${current ? 'current' : ''}>
      <b class="nowrap">${t.plans.monthly(credits(tier.monthly_credits))}</b>
      <strong class="nowrap">${money(tier.price)}</strong>
      <small>${t.perThousand(perThousand(tier.price, tier.monthly_credits))}</small>
      ${settled || next ? html`<span class="chip">${next ? t.plans.nextTier : t.plans.current}</span>`
        : html`<button class=${active ? 'plain' : ''} onClick=${() => ask({ tier })} aria-label=${t.plans.chooseLabel(verb, credits(tier.monthly_credits), money(tier.price))}>${verb}</button>`}</li>`;
  })}</ul>
  ${active && !subscription.cancel_at_period_end && html`<p><button class="plain" onClick=${() => ask({ cancel: true })}>${t.plans.cancel}</button></p>`}`;
}
