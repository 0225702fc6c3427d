// Alerts: mails when the balance is low and before credits expire. Each field shows its own error.
import { html, useState } from './preact.js';
import { useResponse } from './loading.js';
import { Field, Said, Section, useAction, useFocusOnError } from './ui.js';
import { isAmount, plain } from './format.js';
import { t } from './texts.js';

const MAX_THRESHOLDS = 5;
const MAX_RECIPIENTS = 20;
const EXPIRY_DAYS = [30, 7, 1];
const ADDRESS = /^[^\s@]+@[^\s@]+\.[^\s@]+$/;

export function Alerts({ app }) {
  const stored = useResponse({ ...app, moves: 0 }, app.manages ? '/alerts' : null);
  if (!app.manages) return html`<section><h2>${t.alerts.title}</h2><p>${t.alerts.askOwner}</p></section>`;
  return html`<div class="grid">
    <${Section} id="alerts" title=${t.alerts.title} of=${stored} lines=${10}>${value => html`<${AlertsForm} app=${app} stored=${value} />`}</${Section}>
    <${Section} id="always" title=${t.alerts.always}><p>${t.alerts.alwaysText(app.profile?.billing_email)}</p></${Section}>
  </div>`;
}

function formOf({ low_balance: low, expiry }) {
  const stored = [...(low.threshold ? [{ credits: low.threshold }] : []), ...(low.thresholds ?? [])];
  const thresholds = stored.map(one => ({ value: String(one.credits ?? one.percent_of_allocation), unit: one.credits ? 'credits' : 'percent' }));
  const form = { low: low.enabled, thresholds: thresholds.length ? thresholds : [{ value: '', unit: 'credits' }], lowTo: low.recipients.join('\n') };
  return { ...form, several: Boolean(low.thresholds), expiry: expiry && { enabled: expiry.enabled, days: expiry.days, to: expiry.recipients.join('\n') } };
}

function AlertsForm({ app, stored }) {
  const [form, setForm] = useState(() => formOf(stored));
  const [errors, setErrors] = useState({});
  const [said, say] = useState(null);
  const action = useAction();
  const focused = useFocusOnError(errors);
  const set = change => {
    setForm({ ...form, ...change });
    say(null);
  };
  const save = event => {
    event.preventDefault();
    const found = errorsOf(form);
    setErrors(found);
    if (Object.keys(found).length) return say({ failed: true, text: t.errors.check });
    return action.run(() => app.api.put('/alerts', orderOf(form)).then(() => {
      app.api.forget('/alerts');
      say({ text: t.alerts.saved });
    }, problem => {
      const refused = refusedFields(problem, form);
      setErrors(refused);
      say({ failed: true, text: Object.keys(refused).length ? t.errors.check : t.problem(problem) });
    }));
  };
  return html`<form ref=${focused} onSubmit=${save} noValidate>
    <${LowBalance} form=${form} set=${set} errors=${errors} />
    ${form.expiry && html`<${Expiry} expiry=${form.expiry} set=${change => set({ expiry: { ...form.expiry, ...change } })} errors=${errors} />`}
    <p class="actions"><button disabled=${action.busy}>${t.save}</button></p><${Said} of=${said} />
  </form>`;
}

function LowBalance({ form, set, errors }) {
  const change = (at, one) => set({ thresholds: form.thresholds.map((was, index) => (index === at ? { ...was, ...one } : was)) });
  return html`<fieldset><legend class="unseen">${t.alerts.low}</legend>
    <label class="tick"><input type="checkbox" checked=${form.low} onChange=${event => set({ low: event.target.checked })} /> ${t.alerts.lowEnable}</label>
    ${form.low && html`<div class="nested"><p class="quiet">${t.alerts.threshold}</p>
      ${form.thresholds.map((one, at) => html`<${Threshold} key=${at} form=${form} one=${one} at=${at} change=${next => change(at, next)} error=${errors[`threshold${at}`]}
        remove=${() => set({ thresholds: form.thresholds.filter((_, index) => index !== at) })} />`)}
      ${form.several && form.thresholds.length < MAX_THRESHOLDS && html`<p><button type="button" class="plain" onClick=${() => set({ thresholds: [...form.thresholds, { value: '', unit: 'credits' }] })}>${t.alerts.addThreshold}</button></p>`}
      <p class="quiet"><small>${t.alerts.once}</small></p>
      <${Recipients} value=${form.lowTo} error=${errors.lowTo} onInput=${lowTo => set({ lowTo })} /></div>`}
  </fieldset>`;
}

function Threshold({ form, one, at, change, remove, error }) {
  return html`<div class="threshold">
    <input aria-label=${t.alerts.nth(at + 1)} inputmode="decimal" autocomplete="off" value=${one.value} aria-invalid=${error ? 'true' : undefined} aria-describedby=${error ? `threshold-${at}` : undefined} onInput=${event => change({ value: event.target.value })} />
    ${form.several ? html`<select aria-label=${t.alerts.unit(at + 1)} value=${one.unit} onChange=${event => change({ unit: event.target.value })}>
      <option value="credits">${t.alerts.credits}</option><option value="percent">${t.alerts.percent}</option></select>` : t.alerts.credits}
    ${form.thresholds.length > 1 && html`<button type="button" class="plain" onClick=${remove} aria-label=${t.alerts.removeThreshold(at + 1)}>✕</button>`}
    ${error && html`<p class="error" id=${`threshold-${at}`}>${error}</p>`}</div>`;
}

function Expiry({ expiry, set, errors }) {
  const toggle = day => set({ days: expiry.days.includes(day) ? expiry.days.filter(one => one !== day) : [...expiry.days, day] });
  return html`<fieldset><legend class="unseen">${t.alerts.expiry}</legend>
    <label class="tick"><input type="checkbox" checked=${expiry.enabled} onChange=${event => set({ enabled: event.target.checked })} /> ${t.alerts.expiryEnable}</label>
    ${expiry.enabled && html`<div class="nested"><fieldset class="days" aria-describedby=${errors.days ? 'days-error' : undefined}><legend>${t.alerts.days}</legend>
      ${EXPIRY_DAYS.map(day => html`<label key=${day} class="tick"><input type="checkbox" checked=${expiry.days.includes(day)} onChange=${() => toggle(day)} aria-invalid=${errors.days ? 'true' : undefined} /> ${t.alerts.day(day)}</label>`)}</fieldset>
      ${errors.days && html`<p class="error" id="days-error">${errors.days}</p>`}
      <${Recipients} value=${expiry.to} error=${errors.expiryTo} onInput=${to => set({ to })} /></div>`}
  </fieldset>`;
}

function Recipients({ value, error, onInput }) {
  return html`<${Field} label=${t.alerts.recipients} error=${error}>${props => html`<textarea ...${props} rows="3" value=${value} autocomplete="off" spellcheck=${false} onInput=${event => onInput(event.target.value)}></textarea>`}</${Field}>`;
}

const addresses = text => text.split(/[\s,;]+/).filter(Boolean);

function addressError(text) {
  const all = addresses(text);
  if (!all.length) return t.errors.required;
  if (all.length > MAX_RECIPIENTS) return t.errors.tooMany(MAX_RECIPIENTS);
  const wrong = all.find(address => !ADDRESS.test(address));
  return wrong && t.errors.address(wrong);
}

function thresholdError({ value, unit }, at, all) {
  const percent = Number(plain(value));
  if (unit === 'percent' && !(Number.isInteger(percent) && percent >= 1 && percent <= 100)) return t.alerts.percentRange;
  if (unit === 'credits' && !isAmount(value)) return t.errors.amount;
  return all.findIndex(one => one.unit === unit && plain(one.value) === plain(value)) < at ? t.alerts.twice : null;
}

function errorsOf({ low, thresholds, lowTo, expiry }) {
  const errors = {};
  if (low) {
    for (const [at, one] of thresholds.entries()) errors[`threshold${at}`] = thresholdError(one, at, thresholds);
    errors.lowTo = addressError(lowTo);
  }
  if (expiry?.enabled) {
    if (!expiry.days.length) errors.days = t.alerts.noDays;
    errors.expiryTo = addressError(expiry.to);
  }
  return Object.fromEntries(Object.entries(errors).filter(([, error]) => error));
}

/** The order for the API. What is not valid is left out while its alert is off. */
function orderOf({ low, thresholds, lowTo, several, expiry }) {
  const valid = thresholds.filter((one, at) => !thresholdError(one, at, thresholds));
  const each = valid.map(({ value, unit }) => (unit === 'credits' ? { credits: plain(value) } : { percent_of_allocation: Number(plain(value)) }));
  const kept = text => addresses(text).filter(address => ADDRESS.test(address));
  const order = { low_balance: { enabled: low, ...(several ? { thresholds: each } : { threshold: each[0]?.credits ?? null }), recipients: kept(lowTo) } };
  return expiry ? { ...order, expiry: { enabled: expiry.enabled, days: expiry.days, recipients: kept(expiry.to) } } : order;
}

/** The API's errors at the form's fields, in words for people. */
function refusedFields({ fields }, form) {
  const errors = {};
  for (const { field } of fields) {
    const at = Number(/\.(\d+)/.exec(field)?.[1]);
    if (field.startsWith('low_balance.threshold')) errors[`threshold${at || 0}`] = form.thresholds[at || 0]?.unit === 'percent' ? t.alerts.percentRange : t.errors.amount;
    if (field.startsWith('low_balance.recipients')) errors.lowTo = recipientError(form.lowTo, at);
    if (field.startsWith('expiry.recipients')) errors.expiryTo = recipientError(form.expiry.to, at);
    if (field.startsWith('expiry.days')) errors.days = t.alerts.noDays;
  }
  return errors;
}

function recipientError(text, at) {
  const wrong = addresses(text)[at];
  return wrong ? t.errors.address(wrong) : t.errors.required;
}
