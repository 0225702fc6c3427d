// Billing: what is paid, with what, and what was paid.
import { html, useEffect } from './preact.js';
import { useResponse } from './loading.js';
import { AutoTopUp } from './auto_top_up.js';
import { Agreement } from './agreement.js';
import { Ledger } from './ledger.js';
import { Packs } from './packs.js';
import { PaymentMethod } from './payment_method.js';
import { Payments } from './payments.js';
import { Plan } from './plan.js';
import { Receipt } from './receipt.js';
import { Section } from './ui.js';
import { t } from './texts.js';

export function Billing({ app, route }) {
  const [place, id] = route.rest;
  if (place === 'receipts' && id) return html`<${Receipt} app=${app} id=${id} />`;
  return html`<${Sections} app=${app} place=${place} />`;
}

function Sections({ app, place }) {
  const method = useResponse(app, app.manages ? '/payment-method' : null);
  usePlace(place, app.profile);
  if (!app.manages) return html`<div class="grid"><${Section} id="ask" title=${t.billing.title} wide=${true}><p>${t.billing.askOwner}</p></${Section}><${Ledger} app=${app} /></div>`;
  // Until the plan is known, it is not known whether there is anything to buy.
  if (app.enterprise) return html`<div class="grid"><${Agreement} app=${app} /><${Ledger} app=${app} /></div>`;
  return html`<div class="grid">
    <${Plan} app=${app} method=${method} />
    <${Packs} app=${app} />
    <${PaymentMethod} app=${app} method=${method} />
    <${AutoTopUp} app=${app} />
    <${Payments} app=${app} />
    <${Ledger} app=${app} />
  </div>`;
}

/** Shows and focuses the section that the address names, such as `#/billing/add`. */
function usePlace(place, profile) {
  useEffect(() => {
    const heading = place && document.getElementById(place);
    if (!heading) return;
    heading.focus({ preventScroll: true });
    heading.closest('section').scrollIntoView({ block: 'start' });
  }, [place, Boolean(profile)]);
}
