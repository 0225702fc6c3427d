// The low-balance alert: the switch, the threshold, and the recipients.
import { html, useEffect, useState } from './preact.js';
import { useLoaded } from './api.js';
import { plain } from './format.js';

export function Alerts({ api }) {
  const kept = useLoaded(() => api.get('/alerts'), [api]);
  const [form, setForm] = useState(null);
  const [said, say] = useState(null);
  useEffect(() => {
    const alert = kept.value?.low_balance;
    if (alert) setForm({ enabled: alert.enabled, threshold: alert.threshold ?? '', recipients: alert.recipients.join('\n') });
  }, [kept.value]);
  if (!form) return null;
  const set = change => { setForm({ ...form, ...change }); say(null); };
  const save = async event => {
    event.preventDefault();
    const recipients = form.recipients.split(/[\s,;]+/).filter(Boolean);
    const threshold = plain(form.threshold);
    try {
      await api.put('/alerts', { low_balance: { enabled: form.enabled, threshold, recipients } });
      say({ text: 'Saved.' });
    } catch (problem) {
      say({ text: problem.message, failed: true });
    }
  };
  return html`<section aria-labelledby="alerts">
    <h2 id="alerts">Low-balance alert</h2>
    <form onSubmit=${save}>
      <label class="tick"><input type="checkbox" checked=${form.enabled} onChange=${event => set({ enabled: event.target.checked })} />
        Send an e-mail when the balance is low</label>
      <label>At or below how many credits (available and held)
        <input inputmode="decimal" required=${form.enabled} pattern="[0-9,]{1,15}([.][0-9]{1,6})?" title="A number, such as 250.5" value=${form.threshold} onInput=${event => set({ threshold: event.target.value })} /></label>
      <label>To whom, one address per line
        <textarea rows="3" required=${form.enabled} value=${form.recipients} onInput=${event => set({ recipients: event.target.value })}></textarea></label>
      <button>Save</button>
      <p class=${said?.failed ? 'problem' : 'quiet'} role="status">${said?.text}</p>
    </form>
  </section>`;
}
