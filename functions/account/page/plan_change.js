// The dialogs that change the subscription. The preview names what is charged, and the change is refused if it costs more.
import { html, useEffect, useState } from './preact.js';
import { Dialog, Skeleton, useAction } from './ui.js';
import { credits, date, money } from './format.js';
import { t } from './texts.js';

export function ChangeTier({ app, tier, subscription, checkout, close }) {
  const [preview, setPreview] = useState(null);
  const [notice, setNotice] = useState(null);
  const [done, setDone] = useState(null);
  const loading = useAction();
  const changing = useAction();
  const load = () => loading.run(async () => setPreview(await app.api.post('/subscription/preview', { tier: tier.tier })));
  useEffect(() => { load(); }, []);
  const confirm = () => changing.run(async () => {
    const answer = await orderTier(app, tier, preview, setPreview, setNotice);
    if (!answer) return;
    const opened = answer.payment_action ?? (answer.checkout_url && answer);
    if (!opened) return setDone(changed(answer, preview, tier));
    close();
    checkout.open(t.plans.buying(credits(tier.monthly_credits), money(tier.price)), async () => opened, 'subscription');
  });
  const title = t.plans.buying(credits(tier.monthly_credits), money(tier.price));
  return html`<${Dialog} label=${title} close=${close}>
    ${!preview && !loading.problem && html`<${Skeleton} lines=${3} />`}
    <div role="status">
      ${done ? html`<p class="success">${done}</p>` : preview && html`<p class="lead">${costOf(preview, tier, subscription)}</p>`}
      ${notice && !done && html`<p class="error">${notice}</p>`}
      ${(changing.problem ?? loading.problem) && html`<p class="error">${refusal(changing.problem ?? loading.problem, preview)}</p>`}
    </div>
    <p class="actions">
      ${!done && preview && html`<button disabled=${changing.busy} onClick=${confirm}>${verbOf(preview)}</button>`}
      ${loading.problem && html`<button onClick=${load}>${t.failed.retry}</button>`}
      ${changing.problem?.code === 'payment_declined' && html`<a class="button plain" href=${app.link('billing/card')} onClick=${close}>${t.notice.changeCard}</a>`}
      <button class=${done ? '' : 'plain'} onClick=${close}>${done ? t.done : t.notNow}</button></p>
  </${Dialog}>`;
}

/** Orders the tier for at most the amount that the person saw. If the price has risen, shows the new amount and asks again. */
async function orderTier(app, { tier }, { due_now }, setPreview, setNotice) {
  try {
    return await app.api.put('/subscription', { tier, expected_due_now: due_now });
  } catch (problem) {
    if (problem.code !== 'price_changed') throw problem;
    setPreview(await app.api.post('/subscription/preview', { tier }).catch(() => null) ?? (was => ({ ...was, due_now: problem.body.due_now })));
    setNotice(t.plans.priceChanged(money(problem.body.due_now)));
    return null;
  }
}

/** "Pay $170.39 now with Visa •••• 4242, then $300.00 on Dec 30." */
function costOf({ effective, due_now, credits_now, next_charge, payment_method, refund }, tier, subscription) {
  const then = next_charge && [money(next_charge), date(next_charge.at)];
  const method = payment_method && t.method(payment_method);
  const given = Number(credits_now) > 0 ? ` ${t.plans.creditsNow(credits(credits_now))}` : '';
  const back = refund ? ` ${t.plans.refund(money(refund))}` : '';
  if (effective === 'checkout') return t.plans.atCheckout(money(due_now.amount ? due_now : tier.price), money(tier.price)) + given;
  if (effective === 'next_period') return t.plans.nextPeriod(then?.[0] ?? money(tier.price), then?.[1] ?? date(subscription.renews_at), credits(subscription.monthly_credits)) + back;
  return due_now.amount > 0 ? t.plans.payNow(money(due_now), method, then) + given : t.plans.freeNow(then) + given + back;
}

function verbOf({ effective, due_now, next_charge }) {
  if (effective === 'checkout') return t.plans.goToCheckout;
  return due_now.amount > 0 ? t.plans.payVerb(money(due_now)) : effective === 'next_period' && next_charge ? t.plans.changeVerb(date(next_charge.at)) : t.plans.confirm;
}

function changed({ charged, pending_payment, next_tier, renews_at }, { credits_now }, tier) {
  if (pending_payment) return t.checkout.processing;
  if (next_tier) return t.plans.willChange(credits(tier.monthly_credits), date(renews_at));
  return charged?.amount ? t.plans.charged(money(charged), credits(credits_now)) : t.plans.changed(credits(tier.monthly_credits));
}

function refusal(problem, preview) {
  if (problem.code !== 'payment_declined') return t.problem(problem);
  return t.plans.declined(preview?.payment_method && t.method(preview.payment_method));
}

export function CancelPlan({ app, subscription, close }) {
  const action = useAction();
  const [done, setDone] = useState(null);
  const cancel = () => action.run(async () => setDone(await app.api.remove('/subscription')));
  const at = subscription.renews_at && date(subscription.renews_at);
  return html`<${Dialog} label=${t.plans.cancel} close=${close}>
    <div role="status">${done ? html`<p class="success">${done.cancel_at_period_end ? t.plans.ends(at) : t.plans.ended}</p>`
      : html`<p>${subscription.status === 'past_due' ? t.plans.cancelNow : t.plans.cancelAt(at)}</p>`}
      ${action.problem && html`<p class="error">${t.problem(action.problem)}</p>`}</div>
    <p class="actions">${!done && html`<button disabled=${action.busy} onClick=${cancel}>${t.plans.cancel}</button>`}
      <button class=${done ? '' : 'plain'} onClick=${close}>${done ? t.done : t.plans.keepIt}</button></p>
  </${Dialog}>`;
}
