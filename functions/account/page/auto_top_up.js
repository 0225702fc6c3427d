// Automatic top-up: the switch, the threshold, the pack, and the monthly limit.
import { html, useEffect, useState } from './preact.js';
import { useLoaded } from './api.js';
import { credits, plain } from './format.js';

const PAUSED = {
  refund: 'Paused: a payment was refunded.',
  dispute: 'Paused: a payment is disputed.',
  declined: 'Paused: the payment method was declined three times in a row.',
};

export function AutoTopUp({ api, catalog, moves }) {
  const kept = useLoaded(() => api.get('/auto-top-up'), [api, moves]);
  const [form, setForm] = useState(null);
  const [said, say] = useState(null);
  const stored = kept.value;
  useEffect(() => {
    if (stored && catalog && !form) setForm({ enabled: stored.enabled, threshold: stored.threshold ?? '', pack: stored.pack ?? catalog?.packs[0].pack, limit: stored.monthly_limit ?? '' });
  }, [stored, catalog]);
  if (!form) return null;
  const set = change => { setForm({ ...form, ...change }); say(null); };
  const save = async event => {
    event.preventDefault();
    const pack = catalog.packs.find(sold => sold.pack === form.pack);
    if (form.enabled && Number(plain(form.threshold)) >= Number(pack?.credits)) {
      return say({ text: `The threshold must be below the pack's ${credits(pack.credits)} credits, or the balance could be at or below it after a top-up.`, failed: true });
    }
    const limit = String(form.limit).trim();
    // An unchanged limit in credits stays in credits. A number from the form is a number of packs.
    const monthly_limit = !limit ? null : typeof form.limit === 'string' && form.limit === stored.monthly_limit ? limit : Number(limit);
    try {
      await api.put('/auto-top-up', { enabled: form.enabled, threshold: plain(form.threshold), pack: form.pack, monthly_limit });
      say({ text: 'Saved.' });
    } catch (problem) {
      say({ text: problem.message, failed: true });
    }
  };
  const bought = stored.bought_this_month;
  return html`<section aria-labelledby="auto-top-up">
    <h2 id="auto-top-up">Automatic top-up</h2>
    ${!stored.card_stored && html`<p class="quiet">No payment method is stored yet. When you buy a pack, its payment method is stored for automatic top-up.</p>`}
    ${stored.status === 'paused' && html`<p class="problem">${PAUSED[stored.paused_reason]} Switch it on again to continue.</p>`}
    <form onSubmit=${save}>
      <label class="tick"><input type="checkbox" checked=${form.enabled} onChange=${event => set({ enabled: event.target.checked })} />
        Buy a pack with the stored card when the balance is low</label>
      <label>At or below how many credits
        <input inputmode="decimal" required=${form.enabled} pattern="[0-9,]{1,15}([.][0-9]{1,6})?" title="A number, such as 250.5" value=${form.threshold} onInput=${event => set({ threshold: event.target.value })} /></label>
      <label>Which pack
        <select value=${form.pack} onChange=${event => set({ pack: event.target.value })}>
          ${catalog.packs.map(pack => html`<option key=${pack.pack} value=${pack.pack}>${credits(pack.credits)} credits</option>`)}
        </select></label>
      <label>At most how many a month (empty: 10)
        <input inputmode="decimal" pattern="[0-9]{1,4}|[0-9]{1,12}([.][0-9]{1,6})?" title="A whole number" value=${form.limit} onInput=${event => set({ limit: event.target.value })} /></label>
      <button>Save</button>
      <p class=${said?.failed ? 'problem' : 'quiet'} role="status">${said?.text ?? (bought.top_ups ? `${bought.top_ups} bought this month, ${credits(bought.credits)} credits.` : '')}</p>
    </form>
  </section>`;
}
