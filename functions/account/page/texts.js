// The page's texts in its language. Another language is one more file beside texts.en.js, named in LANGUAGES.
import english from './texts.en.js';

/** The languages besides English, each loaded only if the locale asks for it. */
const LANGUAGES = {};

/** The texts. What a language lacks is English. */
export const t = { ...english };

/** Loads the texts of a locale such as `de-CH`, and sets the document's language. */
export async function loadLanguage(locale) {
  const language = String(locale ?? 'en').split('-')[0].toLowerCase();
  const load = LANGUAGES[language];
  if (load) Object.assign(t, (await load()).default);
  document.documentElement.lang = load ? language : 'en';
}
