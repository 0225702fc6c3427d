// The balance: credits by kind with their expiry, and when they run out at the recent pace.
import { html } from './preact.js';
import { credits, date, roughly, words } from './format.js';

export function Balance({ balance }) {
  const parts = partsOf(balance);
  const whole = parts.reduce((sum, part) => sum + Math.max(0, part.left), 0);
  const owned = balance.available !== balance.spendable;
  return html`<section aria-labelledby="balance">
    <h2 id="balance">Balance</h2>
    <p class="figure"><strong>${credits(balance.spendable)}</strong> credits to spend</p>
    ${whole > 0 && html`<div class="bar" aria-hidden="true">
      ${parts.filter(part => part.left > 0).map(part => html`
        <span class=${part.kind} style=${{ flexGrow: part.left / whole }}></span>`)}
    </div>`}
    <dl class="parts">
      ${parts.map(part => html`<div>
        <dt><i class=${part.kind}></i>${part.name}</dt>
        <dd><b>${credits(part.left)}</b>${part.of && ` of ${credits(part.of)}`}<small>${part.until}</small></dd>
      </div>`)}
    </dl>
    <dl class="facts">
      <div><dt>Used this month</dt><dd>${credits(balance.consumed_this_month)}</dd></div>
      ${balance.held !== '0' && html`<div><dt>Held by calls in progress</dt><dd>${credits(balance.held)}</dd></div>`}
      ${balance.forecast.map(forecast => html`<div>
        <dt>At the pace of the last ${forecast.days} days, ${roughly(forecast.credits_per_day)} a day</dt>
        <dd>${outlook(forecast)}</dd>
      </div>`)}
      ${owned && html`<div><dt>Available without the credit limit</dt><dd>${credits(balance.available)}</dd></div>`}
    </dl>
  </section>`;
}

function outlook({ status, runs_out_on }) {
  if (status === 'out_of_credits') return 'out of credits';
  return status === 'runs_out' ? `runs out on ${date(runs_out_on)}` : 'lasts for a year or more';
}

/** Returns the parts of the balance in the order of spending: expiring grants, prepaid credits, credit limit. */
function partsOf({ grants, subscription, prepaid, credit_limit }) {
  const parts = grants.map(grant => ({
    kind: grant.kind,
    name: grant.kind === 'allocation' && subscription ? `This month's allocation` : words(grant.kind),
    left: grant.remaining,
    of: grant.granted,
    until: `expires ${date(grant.expires_at)}`,
  }));
  const owed = prepaid < 0;
  parts.push({ kind: 'prepaid', name: owed ? 'Credits owed' : 'Prepaid', left: prepaid, until: owed ? 'paid by the next credits added' : 'never expires' });
  if (credit_limit !== '0') parts.push({ kind: 'limit', name: 'Credit limit', left: credit_limit, until: 'invoiced' });
  return parts;
}
