// What the usage tab shows: the period, the attribute to group by and the filter. The address has them, so that a reload
// and the back button keep them.
import { useResponse } from './loading.js';
import { daysBetween, lastDay, monthAway } from './format.js';

export const ATTRIBUTES = ['workflow', 'feature', 'operation', 'model', 'user'];
const MONTHS = 24;

/** The attribute that says most about a group of another one. */
const WITHIN = { workflow: 'operation', feature: 'user', operation: 'model', model: 'operation', user: 'feature' };

export function readView(query, now) {
  const today = now.slice(0, 10);
  const by = ATTRIBUTES.includes(query.get('by')) ? query.get('by') : 'workflow';
  // The session's parameters have other names than the filters, which begin with `only-`.
  const filtered = ATTRIBUTES.find(name => query.has(`only-${name}`));
  const filter = filtered ? { by: filtered, key: query.get(`only-${filtered}`) } : null;
  const [from, to] = [query.get('from'), query.get('to')];
  if (from && to) return { from, to, by, filter, month: null, range: true };
  const month = /^\d{4}-\d\d$/.test(query.get('month') ?? '') ? query.get('month') : today.slice(0, 7);
  const last = lastDay(month);
  return { from: `${month}-01`, to: last < today ? last : today, end: last, by, filter, month, range: false };
}

/** The parameters of a view for an address. */
export function viewOf({ month, range, from, to, by, filter }) {
  return { ...(range ? { from, to } : { month }), by, ...(filter && { [`only-${filter.by}`]: filter.key }) };
}

/** The view of one group: filtered by it, and grouped by what says most about it. */
export function within(view, key) {
  return { ...view, filter: { by: view.by, key }, by: WITHIN[view.by] };
}

/** The months that can be chosen, the newest first: 24 at most, and none before the workspace. */
export function monthsUpTo(now, createdAt) {
  const months = Array.from({ length: MONTHS }, (_, at) => monthAway(now.slice(0, 7), -at));
  return createdAt ? months.filter(month => month >= createdAt.slice(0, 7)) : months;
}

/** Whether two days are a range that can be asked for. */
export function isRange(from, to, now) {
  const oldest = `${monthAway(now.slice(0, 7), 1 - MONTHS)}-01`;
  return Boolean(from && to) && from <= to && from >= oldest && to <= now.slice(0, 10);
}

/**
 * Loads a view. A whole month without a filter comes from the counters, which are exact; anything else is counted from the
 * ledger, up to a limit of entries.
 */
export function useUsage(app, view) {
  const counted = view && view.month && !view.filter && view.by !== 'model';
  const groups = useResponse(app, counted ? `/usage?group_by=${view.by}&month=${view.month}&limit=100` : null);
  const days = useResponse(app, counted ? `/usage?group_by=day&month=${view.month}` : null);
  const detail = useResponse(app, view && !counted ? `/usage/detail?${detailQuery(view)}` : null);
  if (!counted) return { ...detail, value: detail.value && ofDetail(detail.value, view) };
  const value = groups.value && days.value && { ...groups.value, complete: true, days: filled(view, days.value.groups.map(({ key, ...day }) => ({ day: key, ...day }))) };
  return { value, problem: groups.problem ?? days.problem, reload: () => { groups.reload(); days.reload(); } };
}

function detailQuery({ from, to, by, filter }) {
  return new URLSearchParams({ from, to, group_by: by, ...(filter && { [filter.by]: filter.key }) });
}

const ofDetail = (detail, view) => ({ ...detail, days: filled(view, detail.days) });

/** All days of the period, those without a call too. */
function filled({ from, to, end }, days) {
  const known = Object.fromEntries(days.map(day => [day.day, day]));
  return daysBetween(from, end ?? to).map(day => known[day] ?? { day, credits: '0', count: 0 });
}
