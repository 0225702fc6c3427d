// Automatic top-up: what it buys at which price with which card, its limits, and whether it is paused.
import { html, useEffect, useState } from './preact.js';
import { useResponse } from './loading.js';
import { Field, Said, Section, useAction, useFocusOnError } from './ui.js';
import { credits, isAmount, money, plain } from './format.js';
import { t } from './texts.js';

/** The most packs a month if no limit is set. */
const DEFAULT_LIMIT = 10;

export function AutoTopUp({ app }) {
  const stored = useResponse(app, '/auto-top-up');
  const of = { ...stored, value: stored.value && app.catalog && stored.value, problem: stored.problem ?? app.catalogSeen.problem };
  return html`<${Section} id="automatic" title=${t.automatic.title} of=${of} lines=${6}>
    ${value => html`<${Settings} app=${app} stored=${value} />`}
  </${Section}>`;
}

function formOf({ enabled, threshold, pack, monthly_limit }, { packs }) {
  return { enabled, threshold: threshold ?? '', pack: pack ?? packs[0].pack, limit: String(monthly_limit ?? DEFAULT_LIMIT) };
}

function Settings({ app, stored }) {
  const { packs } = app.catalog;
  const [form, setForm] = useState(() => formOf(stored, app.catalog));
  const [errors, setErrors] = useState({});
  const [said, say] = useState(null);
  const action = useAction();
  const focused = useFocusOnError(errors);
  const pack = packs.find(sold => sold.pack === form.pack) ?? packs[0];
  const set = change => {
    setForm({ ...form, ...change });
    say(null);
  };
  const save = event => {
    event.preventDefault();
    const found = form.enabled ? errorsOf(form, stored, pack) : {};
    setErrors(found);
    if (Object.keys(found).length) return undefined;
    return action.run(async () => {
      await app.api.put('/auto-top-up', orderOf(form, stored));
      app.changed();
      say({ text: form.enabled ? t.automatic.saved : t.automatic.savedOff });
    });
  };
  useEffect(() => { if (action.problem) refused(action.problem, setErrors, say); }, [action.problem]);
  const input = (name, props) => html`<input ...${props} inputmode="decimal" autocomplete="off" value=${form[name]} onInput=${event => set({ [name]: event.target.value })} />`;
  return html`
    ${stored.status === 'paused' && html`<p class="error">${t.notice.paused(stored.paused_reason)} ${t.automatic.resume}</p>`}
    <form ref=${focused} onSubmit=${save} noValidate>
      <label class="tick"><input type="checkbox" checked=${form.enabled} onChange=${event => set({ enabled: event.target.checked })} /> ${t.automatic.enable}</label>
      ${form.enabled && html`
        <${Field} label=${t.automatic.threshold} error=${errors.threshold}>${props => input('threshold', props)}</${Field}>
        <${Field} label=${t.automatic.pack}>${props => html`<select ...${props} value=${form.pack} onChange=${event => set({ pack: event.target.value })}>
          ${packs.map(sold => html`<option key=${sold.pack} value=${sold.pack}>${t.automatic.option(credits(sold.credits), money(sold.price))}</option>`)}</select>`}</${Field}>
        <${Field} label=${t.automatic.limit} error=${errors.monthly_limit}>${props => input('limit', props)}</${Field}>
        <p class="quiet">${summary(form, pack, stored)}</p>`}
      <p class="actions"><button disabled=${action.busy}>${t.save}</button></p>
      <${Said} of=${said} />
    </form>`;
}

/** Says what will happen: "Buys 1,000 credits for $10.00 with Visa •••• 4242 …". */
function summary(form, pack, { payment_method, bought_this_month }) {
  const bought = bought_this_month?.top_ups ? ` ${t.automatic.bought(bought_this_month.top_ups, credits(bought_this_month.credits))}` : '';
  if (!payment_method) return t.automatic.noCard;
  const most = Number(plain(form.limit));
  const whole = Number.isInteger(most) && most > 0 && most <= 1000 && money({ ...pack.price, amount: pack.price.amount * most });
  return t.automatic.summary(credits(pack.credits), money(pack.price), t.method(payment_method), isAmount(form.threshold) && credits(plain(form.threshold)), whole && [most, whole]) + bought;
}

function errorsOf({ threshold, limit }, stored, pack) {
  const errors = {};
  if (!isAmount(threshold)) errors.threshold = t.errors.amount;
  else if (Number(plain(threshold)) >= Number(pack.credits)) errors.threshold = t.automatic.tooHigh(credits(pack.credits));
  const packs = Number(plain(limit));
  if (limit !== stored.monthly_limit && !(Number.isInteger(packs) && packs >= 1 && packs <= 1000)) errors.monthly_limit = t.automatic.limitRange;
  return errors;
}

/** An unchanged limit in credits stays in credits. A number from the form is a number of packs. */
function orderOf({ enabled, threshold, pack, limit }, stored) {
  const unchanged = limit === stored.monthly_limit;
  const given = isAmount(threshold) ? plain(threshold) : stored.threshold;
  const packs = Number(plain(limit));
  return { enabled, threshold: given, pack, monthly_limit: unchanged ? limit : packs >= 1 ? packs : stored.monthly_limit };
}

function refused(problem, setErrors, say) {
  const known = { threshold: t.errors.amount, monthly_limit: t.automatic.limitRange };
  const errors = Object.fromEntries(problem.fields.filter(({ field }) => known[field]).map(({ field }) => [field, known[field]]));
  setErrors(errors);
  say({ failed: true, text: Object.keys(errors).length ? t.errors.check : t.problem(problem) });
}
