// Texts out of the API's values. Credits are decimal texts, which Intl formats to the last digit.
const locale = 'en';
const quantity = new Intl.NumberFormat(locale, { maximumFractionDigits: 6 });
const rounded = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const dayOf = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeZone: 'UTC' });
const minuteOf = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short', timeZone: 'UTC' });
const monthOf = new Intl.DateTimeFormat(locale, { month: 'long', year: 'numeric', timeZone: 'UTC' });

export const credits = text => quantity.format(text);
export const roughly = text => rounded.format(text);
export const date = text => dayOf.format(new Date(text));
export const time = text => minuteOf.format(new Date(text));
export const month = text => monthOf.format(new Date(text + '-01'));

// The digits of ISO 4217's minor units, where they are not two. Intl knows other digits for some of them (MGA, IQD). A
// test holds this list against the table of shared/core.
const MINOR_DIGITS = {
  0: 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF',
  3: 'BHD IQD JOD KWD LYD OMR TND',
  4: 'CLF UYW',
};

/** The digits of the currency's minor unit. */
function minorDigits(currency) {
  return Number(Object.keys(MINOR_DIGITS).find(digits => MINOR_DIGITS[digits].includes(currency)) ?? 2);
}

/** `{amount, currency}` in minor units of ISO 4217 as money. */
export function money({ amount, currency }) {
  const digits = minorDigits(currency);
  const shown = { style: 'currency', currency, minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(locale, shown).format(amount / 10 ** digits);
}

/** `top_up` as "Top up". */
export function words(name) {
  const text = name.replaceAll('_', ' ');
  return text[0].toUpperCase() + text.slice(1);
}

/** The month before one of `YYYY-MM`. */
export function lastMonth(text) {
  const [year, number] = text.split('-').map(Number);
  return new Date(Date.UTC(year, number - 2, 1)).toISOString().slice(0, 7);
}

/** "1,250.50" as the API takes it: "1250.5". */
export function plain(text) {
  const [whole, fraction = ''] = text.trim().replaceAll(',', '').split('.');
  const kept = fraction.replace(/0+$/, '');
  return whole ? whole.replace(/^0+(?=\d)/, '') + (kept && `.${kept}`) : null;
}
