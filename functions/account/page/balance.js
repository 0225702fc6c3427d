// The balance: what is left of what was there, until when it lasts at the present pace, and what it is made of.
import { html } from './preact.js';
import { Bar, Credits, Section, Skeleton } from './ui.js';
import { credits, date, month as monthName, words } from './format.js';
import { t } from './texts.js';

export function Depletion({ app }) {
  const { seen } = app;
  return html`<section class="hero wide" aria-labelledby="balance" aria-busy=${!seen.value && !seen.problem}>
    <h2 id="balance" class="unseen">${t.balance.title}</h2>
    ${seen.value && html`<${Left} app=${app} /><${Pace} app=${app} />`}
    ${!seen.value && (seen.problem ? html`<div class="failed"><p>${t.failed.section} ${t.problem(seen.problem)}</p><button class="plain" onClick=${seen.reload}>${t.failed.retry}</button></div>`
      : html`<${Skeleton} lines=${5} />`)}
  </section>`;
}

function Left({ app: { balance } }) {
  const left = Math.max(0, Number(balance.spendable) + Number(balance.held));
  const used = Number(balance.consumed_this_month);
  const there = left + used;
  const kind = balance.exhausted ? 'bad' : 'left';
  return html`<div class="left">
    <p class="figure"><strong class=${balance.exhausted ? 'bad' : ''}><${Credits} of=${balance.spendable} /></strong> <span>${t.balance.left}</span></p>
    <${Bar} parts=${[{ part: left / there || 0, kind }, { part: used / there || 0, kind: 'used' }]} />
    <p class="quiet">${there > 0 ? t.balance.used(credits(used), credits(there), monthName(balance.as_of.slice(0, 7))) : t.balance.empty}</p>
    ${Number(balance.held) > 0 && html`<p class="quiet">${t.balance.held(credits(balance.held))}</p>`}
  </div>`;
}

function Pace({ app }) {
  const { balance, manages, enterprise } = app;
  const [week, long] = [7, 28].map(days => balance.forecast.find(forecast => forecast.days === days));
  return html`<div class="pace">
    <p class="quiet">${t.balance.until}</p>
    <p class="outlook">${week ? outlook(week) : t.balance.noPace}</p>
    <p class="quiet">${week && t.balance.pace(credits(week.credits_per_day), 7)} ${long && t.balance.longPace(credits(long.credits_per_day), long.runs_out_on && date(long.runs_out_on))}</p>
    <p class="actions">${!manages ? t.balance.askOwner
      : enterprise ? html`<a class="button" href=${app.link('billing')}>${t.balance.invoices}</a>`
      : html`<a class="button" href=${app.link('billing/add')}>${t.add}</a>`}</p>
  </div>`;
}

function outlook({ status, runs_out_on }) {
  if (status === 'out_of_credits') return t.balance.out;
  return status === 'runs_out' ? date(runs_out_on) : t.balance.lasts;
}

export function Composition({ app: { balance, seen } }) {
  return html`<${Section} id="parts" title=${t.parts.title} of=${seen} wide=${true}>
    ${() => html`<p class="quiet">${t.parts.order}</p><dl class="parts">${partsOf(balance).map(part => html`<div>
      <dt><i class=${part.kind}></i>${part.name}</dt>
      <dd><b><${Credits} of=${part.left} /></b>${part.of && html` <span class="quiet">${t.parts.of(credits(part.of))}</span>`}</dd>
      ${part.of && html`<${Bar} parts=${[{ part: part.left / part.of, kind: part.kind }, { part: 1 - part.left / part.of, kind: 'used' }]} />`}
      <small>${part.until}</small></div>`)}</dl>`}
  </${Section}>`;
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
