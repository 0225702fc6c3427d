// Usage: any month or range of days, by workflow, feature, operation, model or user, and what is within one of them.
import { html, useRef, useState } from './preact.js';
import { Chart } from './chart.js';
import { Groups } from './usage_groups.js';
import { History } from './usage_history.js';
import { Credits, Section, Skeleton, Table, csvOf, download } from './ui.js';
import { count, credits, fullDate, money, month as monthName, time } from './format.js';
import { ATTRIBUTES, isRange, monthsUpTo, readView, useUsage, viewOf, within } from './usage_view.js';
import { t } from './texts.js';

export function UsageTab({ app, route }) {
  if (!app.now) return html`<section><${Skeleton} lines=${10} /></section>`;
  const view = readView(route.query, app.now);
  const show = change => { location.hash = app.link('usage', viewOf({ ...view, ...change })); };
  return html`<div class="grid"><${Period} app=${app} view=${view} show=${show} /><${History} app=${app} show=${show} /></div>`;
}

function Period({ app, view, show }) {
  const usage = useKept(useUsage(app, view));
  const save = () => download(`usage-${app.session.workspace}-${view.from}-${view.by}.csv`, csvOf(rowsOf(usage.value, view)));
  return html`<${Section} id="usage" wide=${true} of=${usage} lines=${14} title=${titleOf(view)}
    tools=${html`<button class="plain" disabled=${!usage.value} onClick=${save}>${t.csv}</button>`}>
    <div class="tools"><${Chooser} app=${app} view=${view} show=${show} /><${By} view=${view} show=${show} /></div>
    ${view.filter && html`<p><span class="filter">${t.usage.only(t.usage.groups[view.filter.by], view.filter.key)}
      <button onClick=${() => show({ filter: null, by: view.filter.by })} aria-label=${t.usage.clear(view.filter.key)}>✕</button></span></p>`}
    ${value => html`<${Shown} app=${app} view=${view} usage=${value} open=${key => show(within(view, key))} />`}
  </${Section}>`;
}

/** The usage, or while another view loads the one before it, so that nothing jumps. */
function useKept(usage) {
  const last = useRef(null);
  if (usage.value) last.current = usage.value;
  return usage.value || usage.problem ? usage : { ...usage, value: last.current, stale: Boolean(last.current) };
}

const titleOf = ({ month, from, to }) => (month ? monthName(month) : `${fullDate(from)} – ${fullDate(to)}`);

function Shown({ app, view, usage, open }) {
  const price = priceOf(app);
  const days = usage.days;
  return html`<${Figures} usage=${usage} price=${price} />
    ${usage.complete === false && html`<p class="notice low">${t.usage.incomplete(count(usage.entries), time(usage.counted_until))}</p>`}
    <${Chart} label=${t.chart.label} days=${days.map(({ day, credits: spent }) => ({ day, credits: spent }))} until=${app.now.slice(0, 10)} />
    <${Groups} usage=${usage} by=${view.by} open=${view.filter?.by === view.by ? null : open} price=${price} />
    ${price && html`<p class="quiet"><small>${t.usage.moneyHint(money(price.price), credits(price.credits))}</small></p>`}
    <details><summary>${t.usage.days}</summary><${Table} label=${t.usage.days} head=${t.usage.daysHead}>${days.filter(day => day.count).map(day => html`<tr key=${day.day}>
      <td>${fullDate(day.day)}</td><td class="number"><${Credits} of=${day.credits} /></td><td class="number">${count(day.count)}</td></tr>`)}</${Table}></details>`;
}

/** The pack by whose price credits are shown as money. An Enterprise workspace has a price of its own. */
function priceOf({ catalog, enterprise }) {
  return enterprise ? null : catalog?.packs[0] ?? null;
}

function Figures({ usage, price }) {
  const each = usage.count ? usage.total / usage.count : 0;
  return html`<dl class="figures"><div><dt>${t.usage.total}</dt><dd><${Credits} of=${usage.total} /></dd></div>
    ${price && html`<div><dt>${t.usage.money}</dt><dd>${moneyOf(usage.total, price)}</dd></div>`}
    <div><dt>${t.usage.calls}</dt><dd>${count(usage.count)}</dd></div>
    <div><dt>${t.usage.perCall}</dt><dd>${credits(each)}</dd></div></dl>`;
}

export const moneyOf = (amount, { price, credits: per }) => money({ ...price, amount: Math.round((price.amount * amount) / per) });

function Chooser({ app, view, show }) {
  const [range, setRange] = useState(null);
  const [wrong, setWrong] = useState(false);
  const days = range ?? (view.range ? view : null);
  const choose = ({ target }) => (target.value === 'range' ? setRange({ from: view.from, to: view.to }) : (setRange(null), show({ month: target.value, range: false })));
  const set = change => {
    const next = { from: days.from, to: days.to, ...change };
    setRange(next);
    const right = isRange(next.from, next.to, app.now);
    setWrong(!right);
    if (right) show({ ...next, month: null, range: true });
  };
  return html`<div class="field"><label for="period">${t.usage.period}</label>
      <select id="period" value=${days ? 'range' : view.month} onChange=${choose}>
        ${monthsUpTo(app.now, app.profile?.created_at).map(month => html`<option key=${month} value=${month}>${monthName(month)}</option>`)}
        <option value="range">${t.usage.range}</option></select></div>
    ${days && ['from', 'to'].map(name => html`<div class="field" key=${name}><label for=${name}>${t.usage[name]}</label>
      <input type="date" id=${name} value=${days[name]} max=${app.now.slice(0, 10)} aria-invalid=${wrong ? 'true' : undefined} aria-describedby=${wrong ? 'range-error' : undefined} onChange=${event => set({ [name]: event.target.value })} /></div>`)}
    ${wrong && html`<p class="error" id="range-error" role="alert">${t.usage.badRange}</p>`}`;
}

function By({ view, show }) {
  return html`<fieldset><legend>${t.usage.by}</legend><div class="switch">${ATTRIBUTES.filter(name => name !== view.filter?.by).map(name => html`<label key=${name}>
    <input type="radio" name="by" value=${name} checked=${view.by === name} onChange=${() => show({ by: name })} /><span>${t.usage.groups[name]}</span></label>`)}</div></fieldset>`;
}

/** The view as rows of a CSV file: exact figures, without a rounding. */
function rowsOf(usage, { by, from, to, filter }) {
  const only = filter ? [`${filter.by}=${filter.key}`] : [];
  const rows = usage.groups.map(group => [group.key ?? '', group.credits, group.count, from, to, ...only]);
  if (usage.other) rows.push(['(others)', usage.other.credits, usage.other.count, from, to, ...only]);
  return [[by, 'credits', 'calls', 'from', 'to', ...(filter ? ['filter'] : [])], ...rows];
}
