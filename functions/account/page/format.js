// Formats the API's values for people, in the locale and the time zone of the page's address. Credits are decimal
// strings, which Intl formats without loss of digits.
let number, exactNumber, dayOf, dayAndYearOf, timeOf, monthOf, monthAloneOf, shortMonthOf, locale;

/** Sets the locale and the time zone. An unknown one is ignored. Days and months are those of the API: UTC. */
export function setFormats({ locale: asked, timeZone }) {
  locale = supported(asked) ?? 'en';
  const zone = knownZone(timeZone) ?? 'UTC';
  const dates = options => new Intl.DateTimeFormat(locale, { timeZone: 'UTC', ...options });
  number = new Intl.NumberFormat(locale, { maximumFractionDigits: 2 });
  exactNumber = new Intl.NumberFormat(locale, { maximumFractionDigits: 6 });
  dayOf = dates({ month: 'short', day: 'numeric' });
  dayAndYearOf = dates({ dateStyle: 'medium' });
  timeOf = dates({ dateStyle: 'medium', timeStyle: 'short', timeZone: zone });
  monthOf = dates({ month: 'long', year: 'numeric' });
  monthAloneOf = dates({ month: 'long' });
  shortMonthOf = dates({ month: 'short' });
  return zone;
}

function supported(asked) {
  try {
    return Intl.NumberFormat.supportedLocalesOf(asked ?? [])[0];
  } catch {
    return undefined;
  }
}

function knownZone(zone) {
  try {
    return zone && new Intl.DateTimeFormat('en', { timeZone: zone }).resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}

/** Formats credits with at most two decimals: "1,250.5". What is too small for that is "<0.01". */
export function credits(text) {
  const small = Math.abs(text);
  return small > 0 && small < 0.01 ? `<${number.format(0.01)}` : number.format(text);
}

/** Formats credits with all their decimals. */
export const exactly = text => exactNumber.format(text);
export const count = value => number.format(value);
/** Formats a whole number of percent: "23%". */
export const percent = part => new Intl.NumberFormat(locale, { style: 'percent', maximumFractionDigits: 0 }).format(part);
/** "Dec 4" in this year, "Dec 4, 2027" in another. */
export const date = text => (text.slice(0, 4) === String(new Date().getUTCFullYear()) ? dayOf : dayAndYearOf).format(new Date(text));
export const shortDay = text => dayOf.format(new Date(text));
export const fullDate = text => dayAndYearOf.format(new Date(text));
export const time = text => timeOf.format(new Date(text));
export const month = text => monthOf.format(new Date(`${text}-01`));
export const monthAlone = text => monthAloneOf.format(new Date(`${text}-01`));
export const shortMonth = text => shortMonthOf.format(new Date(`${text}-01`));

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

/** Formats the price of 1,000 credits at a price for `amount` credits. */
export function perThousand(price, amount) {
  return money({ ...price, amount: Math.round((price.amount * 1000) / amount) });
}

/** Formats `top_up` as "Top up". */
export function words(name) {
  const text = name.replaceAll('_', ' ');
  return text[0].toUpperCase() + text.slice(1);
}

/** Returns the month that is `by` months away from a month of the form `YYYY-MM`. */
export function monthAway(text, by) {
  const [year, number] = text.split('-').map(Number);
  return new Date(Date.UTC(year, number - 1 + by, 1)).toISOString().slice(0, 7);
}

/** Returns the last day of a month as `YYYY-MM-DD`. */
export function lastDay(text) {
  return new Date(Date.parse(`${monthAway(text, 1)}-01`) - 86_400_000).toISOString().slice(0, 10);
}

/** Returns all days from one to another, both as `YYYY-MM-DD`. */
export function daysBetween(from, to) {
  const days = [];
  for (let at = Date.parse(from); at <= Date.parse(to) && days.length < 800; at += 86_400_000) {
    days.push(new Date(at).toISOString().slice(0, 10));
  }
  return days;
}

/** Converts "1,250.50" to the API's form "1250.5", and an empty text to null. */
export function plain(text) {
  const [whole, fraction = ''] = String(text).trim().replaceAll(',', '').split('.');
  const kept = fraction.replace(/0+$/, '');
  return whole ? whole.replace(/^0+(?=\d)/, '') + (kept && `.${kept}`) : null;
}

/** Tells whether a text is an amount of credits that the API accepts, above zero. */
export const isAmount = text => /^\d{1,12}(\.\d{1,6})?$/.test(plain(text) ?? '') && Number(plain(text)) > 0;
