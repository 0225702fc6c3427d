// The overview: what is left and until when, this month against the last, what used the credits, and the plan's runs.
import { html } from './preact.js';
import { useResponse } from './loading.js';
import { BlockedRuns } from './blocked_runs.js';
import { Chart } from './chart.js';
import { Depletion } from './balance.js';
import { Bar, Credits, Section } from './ui.js';
import { count, credits, date, daysBetween, lastDay, month as monthName, monthAlone, monthAway, percent, shortMonth } from './format.js';
import { t } from './texts.js';

export function Overview({ app }) {
  const runs = useResponse(app, '/runs?status=failed');
  return html`<div class="grid">
    <${Depletion} app=${app} />
    <${BlockedRuns} app=${app} runs=${runs} />
    <${Month} app=${app} />
    <div class="column"><${TopWorkflows} app=${app} /><${Runs} runs=${runs} /></div>
  </div>`;
}

function Month({ app }) {
  const month = app.now?.slice(0, 7);
  const before = month && monthAway(month, -1);
  const now = useResponse(app, month && `/usage?group_by=day&month=${month}`);
  const then = useResponse(app, before && `/usage?group_by=day&month=${before}`);
  const of = { value: now.value && then.value && [now.value, then.value], problem: now.problem ?? then.problem, reload: () => { now.reload(); then.reload(); } };
  return html`<${Section} id="month" title=${month ? t.month.title(monthAlone(month)) : t.month.title('')} of=${of} lines=${7}
    tools=${html`<a href=${app.link('usage')}>${t.month.more}</a>`}>
    ${([usage, last]) => html`<p class="lead">${compared(usage, last, app.now)}</p>
      ${(usage.count > 0 || last.count > 0) && html`<${Chart} label=${t.chart.label} days=${paired(month, usage, last)} names=${[monthName(month), monthName(before)]} until=${app.now.slice(0, 10)} />
      <p class="legend"><span class="now">${shortMonth(month)}</span><span class="then">${shortMonth(before)}</span></p>`}`}
  </${Section}>`;
}

/** Says how much was used so far, and how that compares with last month up to the same day. */
function compared(usage, last, now) {
  const day = Number(now.slice(8, 10));
  const same = last.groups.filter(group => Number(group.key.slice(8)) <= day).reduce((sum, group) => sum + Number(group.credits), 0);
  const used = html`<b><${Credits} of=${usage.total} unit=${true} /></b> `;
  if (!same) return html`${used}${t.month.soFar}`;
  const change = (usage.total - same) / same;
  return html`${used}${t.month.compared(percent(Math.abs(change)), change, monthAlone(last.month), credits(same))}`;
}

/** The days of a month, each with the same day of the month before. */
function paired(month, usage, last) {
  const spent = Object.fromEntries([...usage.groups, ...last.groups].map(group => [group.key, group.credits]));
  return daysBetween(`${month}-01`, lastDay(month)).map(day => ({ day, credits: spent[day] ?? '0', before: spent[`${last.month}${day.slice(7)}`] ?? '0' }));
}

function TopWorkflows({ app }) {
  const month = app.now?.slice(0, 7);
  const usage = useResponse(app, month && `/usage?group_by=workflow&month=${month}&limit=5`);
  return html`<${Section} id="top" title=${t.top.title} of=${usage} lines=${5}>
    ${({ groups, total }) => (groups.length
      ? html`<ol class="top">${groups.map(group => html`<li key=${group.key}>
          <a href=${app.link('usage', { month, by: 'operation', 'only-workflow': group.key })} hidden=${group.key === null}>${group.key}</a>
          ${group.key === null && html`<span>${t.none.workflow}</span>`}
          <b><${Credits} of=${group.credits} /></b>
          <div class="share" aria-hidden="true"><i style=${{ width: `${(group.credits / total) * 100}%` }}></i></div></li>`)}</ol>`
      : html`<p class="quiet">${t.top.none}</p>`)}
  </${Section}>`;
}

/** The plan's monthly runs. */
function Runs({ runs }) {
  return html`<${Section} id="runs" title=${t.runs.title} of=${runs} lines=${2}>
    ${({ allowance }) => allowance && html`<p class="lead"><b class="nowrap">${count(allowance.used)}</b> ${allowance.limit === null ? t.runs.unlimited : t.runs.of(count(allowance.limit))}</p>
      ${allowance.limit !== null && html`<${Bar} parts=${[{ part: Math.min(1, allowance.used / allowance.limit), kind: allowance.used >= allowance.limit ? 'bad' : 'left' }, { part: Math.max(0, 1 - allowance.used / allowance.limit), kind: 'used' }]} />
        <p class="quiet">${allowance.used >= allowance.limit ? t.runs.none : ''} ${t.runs.resets(date(allowance.resets_at))}</p>`}`}
  </${Section}>`;
}
