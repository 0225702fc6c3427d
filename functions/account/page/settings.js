// <ai-credits-settings>: the settings page as a part of your app's own page (M9).
//
//   <script type="module" src="https://…/settings/ai-credits/settings.js"></script>
//   <ai-credits-settings workspace="acme" accent="#0a7d5a"></ai-credits-settings>
//   document.querySelector('ai-credits-settings').getToken = async () => (await fetch('/credits-token')).text();
//
// The page's address is that of this script, or the attribute `src`. Your page's origin must be in the parameter
// `PageOrigins` of the deployment. The token is handed over with postMessage to the page's origin only. `getToken` is
// called at the start and whenever a token has ended; `token` sets one at once. The attributes `accent`, `logo`,
// `locale`, `time-zone`, `theme`, `workspace`, `workflows`, `app` and `path` (such as `billing`) set the look and the
// start; a change of them loads the frame again. The height follows the content.
const style = new CSSStyleSheet();
style.replaceSync(':host { display: block } :host([hidden]) { display: none } iframe { display: block; width: 100%; height: 40rem; border: 0; color-scheme: normal }');
const PASSED = ['accent', 'logo', 'locale', 'time-zone', 'theme', 'workspace', 'workflows', 'app', 'refresh'];

class AiCreditsSettings extends HTMLElement {
  static observedAttributes = ['src', 'path', ...PASSED];
  #frame = document.createElement('iframe');
  #token = null;
  #hear = event => this.#heard(event);

  /** Returns a token, or a promise of one. */
  getToken = null;

  constructor() {
    super();
    this.#frame.title = 'AI Credits';
    this.attachShadow({ mode: 'open' }).append(this.#frame);
    this.shadowRoot.adoptedStyleSheets = [style];
  }

  /** Hands a token to the page. */
  set token(token) {
    this.#token = token;
    this.#send(token);
  }

  connectedCallback() {
    addEventListener('message', this.#hear);
    this.#load();
  }

  disconnectedCallback() {
    removeEventListener('message', this.#hear);
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#load();
  }

  get #address() {
    return new URL(this.getAttribute('src') ?? new URL('../ai-credits', import.meta.url), document.baseURI);
  }

  #load() {
    const given = new URLSearchParams(PASSED.filter(name => this.hasAttribute(name)).map(name => [name, this.getAttribute(name)]));
    const address = this.#address;
    address.hash = `/${this.getAttribute('path') ?? 'overview'}?${given}`;
    this.#frame.src = address.href;
  }

  async #heard({ source, origin, data }) {
    if (source !== this.#frame.contentWindow || origin !== this.#address.origin) return;
    if (data?.type === 'ai-credits:height' && Number.isFinite(data.height)) this.#frame.style.height = `${Math.ceil(data.height)}px`;
    if (data?.type === 'ai-credits:token-request') this.#send(this.getToken ? await this.getToken() : this.#token);
  }

  #send(token) {
    if (token) this.#frame.contentWindow?.postMessage({ type: 'ai-credits:token', token }, this.#address.origin);
  }
}

if (!customElements.get('ai-credits-settings')) customElements.define('ai-credits-settings', AiCreditsSettings);
