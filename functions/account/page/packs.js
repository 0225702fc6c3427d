// Packs: credits that are bought once and never expire, each with its price.
import { html, useRef } from './preact.js';
import { useCheckout } from './checkout.js';
import { Section } from './ui.js';
import { credits, money, perThousand } from './format.js';
import { t } from './texts.js';

export function Packs({ app }) {
  const { catalog } = app;
  const checkout = useCheckout(app);
  const keys = useRef({});
  // Keeps the key until the call has an answer: if that is lost, the next click repeats the same order.
  const order = async ({ pack }) => {
    keys.current[pack] ??= crypto.randomUUID();
    const opened = await app.api.post('/top-ups', { pack }, keys.current[pack]);
    delete keys.current[pack];
    return opened;
  };
  const buy = pack => checkout.open(t.packs.buying(credits(pack.credits), money(pack.price)), () => order(pack), 'topUp');
  return html`<${Section} id="add" title=${t.packs.title} of=${app.catalogSeen} lines=${4} wide=${true}>
    ${() => html`<p class="quiet">${t.packs.explained}</p>
      <ul class="offers">${catalog.packs.map(pack => html`<li key=${pack.pack}>
        <b class="nowrap">${t.amount(credits(pack.credits))}</b>
        <strong class="nowrap">${money(pack.price)}</strong>
        <small>${t.perThousand(perThousand(pack.price, pack.credits))}</small>
        <button onClick=${() => buy(pack)} aria-label=${t.packs.buyLabel(credits(pack.credits), money(pack.price))}>${t.packs.buy}</button></li>`)}</ul>
      <p class="quiet">${t.packs.checkout}</p>`}
    ${checkout.dialog}
  </${Section}>`;
}
