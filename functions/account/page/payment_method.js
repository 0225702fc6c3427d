// The stored payment method: which it is, replacing it at a checkout that charges nothing, and removing it.
import { html, useRef, useState } from './preact.js';
import { useCheckout } from './checkout.js';
import { Dialog, Section, useAction } from './ui.js';
import { t } from './texts.js';

export function PaymentMethod({ app, method }) {
  const checkout = useCheckout(app);
  const [removing, setRemoving] = useState(false);
  const key = useRef(null);
  const stored = method.value?.payment_method;
  const start = async () => {
    key.current ??= crypto.randomUUID();
    const opened = await app.api.post('/payment-method', {}, key.current);
    key.current = null;
    return opened;
  };
  const replace = () => checkout.open(stored ? t.card.replace : t.card.add, start, 'method', stored);
  return html`<${Section} id="card" title=${t.card.title} of=${method} lines=${3}>
    ${() => html`<p class="lead">${stored ? html`<b class="nowrap">${t.method(stored)}</b>` : t.card.none}</p>
      <p class="quiet">${stored?.exp_year ? t.card.expires(stored.exp_month, stored.exp_year) : ''} ${stored ? t.card.usedFor : t.card.why}</p>
      <p class="actions"><button class="plain" onClick=${replace}>${stored ? t.card.replace : t.card.add}</button>
        ${stored && html`<button class="plain" onClick=${() => setRemoving(true)}>${t.card.remove}</button>`}</p>`}
    ${removing && html`<${Removal} app=${app} stored=${stored} close=${() => { setRemoving(false); app.changed(); }} />`}
    ${checkout.dialog}
  </${Section}>`;
}

function Removal({ app, stored, close }) {
  const action = useAction();
  const [done, setDone] = useState(false);
  const remove = () => action.run(async () => {
    await app.api.remove('/payment-method');
    setDone(true);
  });
  return html`<${Dialog} label=${t.card.remove} close=${close}>
    <div role="status"><p class=${done ? 'success' : ''}>${done ? t.card.removed : stored && t.card.removal(t.method(stored))}</p>
      ${action.problem && html`<p class="error">${action.problem.code === 'payment_method_in_use' ? t.card.inUse : t.problem(action.problem)}</p>`}</div>
    <p class="actions">${!done && html`<button disabled=${action.busy} onClick=${remove}>${t.card.remove}</button>`}
      <button class=${done ? '' : 'plain'} onClick=${close}>${done ? t.done : t.notNow}</button></p>
  </${Dialog}>`;
}
