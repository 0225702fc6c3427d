// The balance: what is left of what was there, until when it lasts at the present pace, and what it is made of.
import { html } from './preact.js';
import { Bar, Credits, Skeleton } from './ui.js';
import { credits, date, monthAlone, words } from './format.js';
import { t } from './texts.js';

export function Depletion({ app }) {
  const { seen } = app;
  return html`<section class="hero wide" aria-labelledby="balance" aria-busy=${!seen.value && !seen.problem}>
    <h2 id="balance" class="unseen">${t.balance.title}</h2>
    ${seen.value && html`<${Left} app=${app} /><${Pace} app=${app} /><${Composition} balance=${seen.value} />`}
    ${!seen.value && (seen.problem ? html`<div class="failed"><p>${t.failed.section} ${t.problem(seen.problem)}</p><button class="plain" onClick=${seen.reload}>${t.failed.retry}</button></div>`
      : html`<${Skeleton} lines=${5} />`)}
  </section>`;
}

function Left({ app: { balance } }) {
  const left = Math.max(0, Number(balance.spendable) + Number(balance.held));
  const used = Number(balance.consumed_this_month);
  const there = left + used;
  return html`<div class="left">
    <p class="figure"><strong class=${balance.exhausted ? 'bad' : ''}><${Credits} of=${balance.spendable} /></strong> <span>${t.balance.left}</span></p>
    <${Bar} parts=${barOf(balance, left, used)} />
    <p class="quiet">${there > 0 ? t.balance.used(credits(used), credits(there), monthAlone(balance.as_of.slice(0, 7))) : t.balance.empty(monthAlone(balance.as_of.slice(0, 7)))}</p>
    ${Number(balance.held) > 0 && html`<p class="quiet">${t.balance.held(credits(balance.held))}</p>`}
  </div>`;
}

/** What was there this month: what is left by where it comes from, and what was used. Empty if nothing is left to speak of. */
function barOf(balance, left, used) {
  const parts = partsOf(balance).filter(part => part.left > 0);
  const sum = parts.reduce((total, part) => total + Number(part.left), 0) || 1;
  const there = left + used || 1;
  if (balance.exhausted) return [{ part: 0.01, kind: 'bad' }, { part: 0.99, kind: 'used' }];
  const shown = parts.map(part => ({ part: (part.left / sum) * (left / there), kind: part.kind }));
  return [...shown, { part: used / there, kind: 'used' }];
}

/** The pace, and the primary action unless a notice above has it. */
function Pace({ app }) {
  const { balance, manages, enterprise } = app;
  const [week, long] = [7, 28].map(days => balance.forecast.find(forecast => forecast.days === days));
  return html`<div class="pace">
    <p class="quiet">${t.balance.until}</p>
    <p class="outlook">${balance.exhausted ? t.balance.out : week ? outlook(week) : t.balance.noPace}</p>
    <p class="quiet">${week && t.balance.pace(credits(week.credits_per_day), 7)} ${long && t.balance.longPace(credits(long.credits_per_day), long.runs_out_on && date(long.runs_out_on))}</p>
    ${!balance.exhausted && html`<p class="actions">${!manages ? t.balance.askOwner
      : enterprise ? html`<a class="button" href=${app.link('billing')}>${t.balance.invoices}</a>`
      : html`<a class="button" href=${app.link('billing/add')}>${t.add}</a>`}</p>`}
  </div>`;
}

/** Until when the credits last. */
function outlook({ status, runs_out_on }) {
  return status === 'runs_out' ? t.balance.untilDay(date(runs_out_on)) : t.balance.lasts;
}

/** The parts in the order in which they are spent. */
function Composition({ balance }) {
  return html`<dl class="parts" aria-label=${t.parts.title}>${partsOf(balance).map(part => html`<div>
    <dt><i class=${part.kind}></i>${part.name}</dt>
    <dd><b><${Credits} of=${part.left} /></b>${part.of && html` <span class="quiet nowrap">${t.parts.of(credits(part.of))}</span>`}<small>${part.until}</small></dd></div>`)}</dl>`;
}

/** Returns the parts of the balance in the order of spending: expiring grants, prepaid credits, credit limit. */
function partsOf({ grants, subscription, prepaid, credit_limit }) {
  const parts = grants.map(grant => ({
    kind: grant.kind,
    name: grant.kind === 'allocation' && subscription ? t.parts.allocation : t.parts[grant.kind] ?? words(grant.kind),
    left: grant.remaining,
    of: grant.granted,
    until: t.parts.expires(date(grant.expires_at)),
  }));
  const owed = prepaid < 0;
  parts.push({ kind: 'prepaid', name: owed ? t.parts.owed : t.parts.prepaid, left: prepaid, until: owed ? t.parts.owedUntil : t.parts.never });
  if (credit_limit !== '0') parts.push({ kind: 'limit', name: t.parts.limit, left: credit_limit, until: t.parts.invoiced });
  return parts;
}
