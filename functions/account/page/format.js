// Formats the API's values for people. Credits are decimal strings, which Intl formats without loss of digits.
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

// The digits of ISO 4217's minor units, for currencies that do not have two. Intl uses other digits for some of them
// (MGA, IQD). A test compares this list with the table of shared/core.
const MINOR_DIGITS = {
  0: 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF',
  3: 'BHD IQD JOD KWD LYD OMR TND',
  4: 'CLF UYW',
};

/** Returns the digits of a currency's minor unit. */
function minorDigits(currency) {
  return Number(Object.keys(MINOR_DIGITS).find(digits => MINOR_DIGITS[digits].includes(currency)) ?? 2);
}

/** Formats `{amount, currency}` as money. The amount is in minor units of ISO 4217. */
export function money({ amount, currency }) {
  const digits = minorDigits(currency);
  const shown = { style: 'currency', currency, minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(locale, shown).format(amount / 10 ** digits);
}

/** Formats `top_up` as "Top up". */
export function words(name) {
  const text = name.replaceAll('_', ' ');
  return text[0].toUpperCase() + text.slice(1);
}

/** Returns the month before a month of the form `YYYY-MM`. */
export function lastMonth(text) {
  const [year, number] = text.split('-').map(Number);
  return new Date(Date.UTC(year, number - 2, 1)).toISOString().slice(0, 7);
}

/** Converts "1,250.50" to the API's form "1250.5", and an empty text to null. */
export function plain(text) {
  const [whole, fraction = ''] = text.trim().replaceAll(',', '').split('.');
  const kept = fraction.replace(/0+$/, '');
  return whole ? whole.replace(/^0+(?=\d)/, '') + (kept && `.${kept}`) : null;
}
