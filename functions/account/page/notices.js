// What needs action, the most urgent first: it stands above each tab, with one button.
import { html } from './preact.js';
import { useResponse } from './loading.js';
import { credits, date, money, time } from './format.js';
import { useCheckout } from './checkout.js';
import { t } from './texts.js';

/** The balance is low if it ends within so many days at the present pace. */
const LOW_DAYS = 7;

export function Notices({ app, tab, at }) {
  const { balance, manages, seen } = app;
  // Without a subscription its call would answer 404, which the browser logs as an error.
  const allocations = useResponse(app, manages && balance && !balance.subscription ? '/ledger?limit=1&kind=allocation' : null).value;
  const subscribed = balance?.subscription || allocations?.entries.length > 0;
  const subscription = useResponse(app, manages && subscribed ? '/subscription' : null).value;
  const entries = useResponse(app, balance?.exhausted ? '/ledger?limit=1' : null).value?.entries;
  const automatic = useResponse(app, manages && balance && !app.enterprise ? '/auto-top-up' : null).value;
  const alerts = useResponse(app, manages && balance ? '/alerts' : null).value;
  const checkout = useCheckout(app);
  if (!balance) return null;
  const found = [
    seen.problem && lost(seen, at),
    subscription && ofSubscription(subscription, app, checkout),
    (!balance.exhausted || entries) && ofBalance(balance, app, { automatic, alerts, fresh: entries?.length === 0 }),
    automatic?.status === 'paused' && { bad: true, text: t.notice.paused(automatic.paused_reason), action: to(app, 'billing/automatic', t.notice.review) },
    subscription?.pending_payment && { text: t.notice.processing },
  ].filter(Boolean).filter(notice => tab === 'overview' || notice.bad);
  return html`<div role="status" class="notices">${found.map(notice => html`<div key=${notice.text} class=${notice.bad ? 'notice bad' : notice.low ? 'notice low' : 'notice'}>
      <p>${notice.title && html`<b>${notice.title}</b> `}${notice.text}</p>${notice.action}</div>`)}</div>${checkout.dialog}`;
}

const to = (app, path, text) => html`<a class="button" href=${app.link(path)}>${text}</a>`;

function lost({ problem, reload }, at) {
  const text = t.notice.lost(t.problem(problem), at && time(at));
  return { low: true, text, action: html`<button class="plain" onClick=${reload}>${t.failed.retry}</button>` };
}

function ofSubscription({ status, payment_action, next_attempt_at, next_charge, monthly_credits, price }, app, checkout) {
  if (payment_action) {
    const confirm = () => checkout.open(t.notice.confirmTitle, async () => payment_action, 'subscription');
    return { bad: true, title: t.notice.confirmTitle, text: t.notice.confirm(money(next_charge ?? price), credits(monthly_credits)), action: html`<button onClick=${confirm}>${t.notice.confirmVerb}</button>` };
  }
  if (status !== 'past_due') return null;
  const text = t.notice.pastDue(money(price), credits(monthly_credits), next_attempt_at && date(next_attempt_at));
  return { bad: true, title: t.notice.pastDueTitle, text, action: to(app, 'billing/card', t.notice.changeCard) };
}

function ofBalance(balance, app, { automatic, alerts, fresh }) {
  const { manages, enterprise } = app;
  const add = manages && !enterprise && to(app, 'billing/add', t.add);
  const ask = manages ? (enterprise ? t.notice.contact : '') : t.notice.askOwner;
  if (balance.exhausted && fresh) return { title: t.notice.newTitle, text: `${t.notice.fresh} ${ask}`, action: add };
  if (balance.exhausted) return { bad: true, title: t.notice.outTitle, text: `${t.notice.out} ${ask}`, action: add };
  if (automatic?.status === 'on') return null;
  const reason = lowReason(balance, alerts?.low_balance);
  return reason && { low: true, title: t.notice.lowTitle, text: `${reason} ${ask}`, action: add };
}

/** Why the balance is low, or nothing if it isn't. */
function lowReason(balance, alert) {
  const pace = balance.forecast.find(({ days }) => days === 7);
  const left = Number(balance.available) + Number(balance.held);
  const threshold = alert?.enabled ? thresholdOf(alert, balance) : 0;
  if (pace?.status === 'runs_out') {
    const days = Math.round((Date.parse(pace.runs_out_on) - Date.parse(balance.as_of.slice(0, 10))) / 86_400_000);
    if (days <= LOW_DAYS) return t.notice.lowDays(date(pace.runs_out_on));
  }
  return threshold > 0 && left <= threshold ? t.notice.lowAlert(credits(threshold)) : null;
}

/** The highest threshold of the low-balance alert, in credits. */
function thresholdOf({ threshold, thresholds = [] }, balance) {
  const allocation = Number(balance.subscription?.allocation ?? 0);
  const each = thresholds.map(one => (one.credits ? Number(one.credits) : (allocation * one.percent_of_allocation) / 100));
  return Math.max(Number(threshold ?? 0), ...each);
}
