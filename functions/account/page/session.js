// The session: the token, the workspace, and what the app set in the page's address.
//
// The address's fragment, which browsers do not send, has them: `#/billing?token=…&workspace=…&accent=…`, or without a
// path `#token=…`. The token is removed from the address at once and kept in memory only. The rest stays, so that a
// reload can ask the app for another token: the page that embeds this one, or the address `refresh`.

/** What an app can set besides the token. All of it stays in the address. */
const KEPT = ['workspace', 'workflows', 'app', 'refresh', 'accent', 'logo', 'locale', 'time-zone', 'theme', 'scope'];
const ANSWER_TIMEOUT_MS = 10_000;

/** The origins that may embed this page and hand it a token. The server sets them from its parameter `PageOrigins`. */
const EMBEDDERS = (document.querySelector('meta[name=ai-credits-embedders]')?.content ?? '').split(/\s+/).filter(Boolean);
const FRAMED = window.parent !== window;

/** Splits a fragment into its path and its parameters. */
export function readFragment(hash = location.hash) {
  const text = hash.replace(/^#/, '');
  const [path, query = ''] = text.startsWith('/') ? text.split(/\?(.*)/s) : ['/', text];
  return { path, given: new URLSearchParams(query) };
}

export class Session {
  #token = null;
  #renewal = null;
  #waiting = [];

  constructor() {
    this.framed = FRAMED;
    this.parent = embedder();
    this.take(readFragment());
    addEventListener('hashchange', () => this.take(readFragment()));
    if (FRAMED) addEventListener('message', event => this.#hear(event));
  }

  /** Takes the token and the settings of a fragment, and removes the token from the address. */
  take({ path, given }) {
    const token = given.get('token');
    if (!token && this.settings) return;
    this.settings = Object.fromEntries(KEPT.map(name => [name, given.get(name) || null]));
    if (token) this.#adopt(token);
    given.delete('token');
    if (this.workspace && !given.get('workspace')) given.set('workspace', this.workspace);
    if (token) history.replaceState(null, '', `${location.pathname}${location.search}#${path}?${given}`);
  }

  get token() {
    return this.#token;
  }

  get workspace() {
    const { workspace } = claimsOf(this.#token);
    return this.settings.workspace ?? (workspace === '*' ? null : workspace ?? null);
  }

  /** Whether the token can buy and set alerts. It only decides what the page offers: the server checks each call. */
  get manages() {
    const scope = this.settings.scope ?? claimsOf(this.#token).scope;
    return scope === undefined || String(scope).split(' ').includes('credits:manage');
  }

  /** The address to which a workflow's id is appended, if the app has such pages. */
  get workflows() {
    return webAddress(this.settings.workflows);
  }

  /** The app's page from which people open this one. */
  get app() {
    return webAddress(this.settings.app);
  }

  /** The parameters that every link within the page keeps. */
  kept() {
    const kept = Object.entries({ ...this.settings, workspace: this.workspace }).filter(([, value]) => value);
    return new URLSearchParams(kept);
  }

  /** Whether the page can get a token by itself. */
  get renewable() {
    return (FRAMED && EMBEDDERS.length > 0) || Boolean(this.#refreshAddress());
  }

  /** Gets another token from the app. Calls at the same time share one attempt. Returns whether there is one. */
  renew() {
    this.#renewal ??= this.#renewed().finally(() => { this.#renewal = null; });
    return this.#renewal;
  }

  async #renewed() {
    if (FRAMED && EMBEDDERS.length > 0 && await this.#askParent()) return true;
    const address = this.#refreshAddress();
    if (!address) return false;
    try {
      const response = await fetch(address, { credentials: 'include', cache: 'no-store', signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
      const { token } = response.ok ? await response.json() : {};
      if (token) this.#adopt(token);
      return Boolean(token);
    } catch {
      return false;
    }
  }

  /** Asks the embedding page. Only one of the allowed origins can receive the message. */
  #askParent() {
    return new Promise(done => {
      const timer = setTimeout(() => done(false), ANSWER_TIMEOUT_MS);
      this.#waiting.push(() => { clearTimeout(timer); done(true); });
      for (const origin of this.parent ? [this.parent] : EMBEDDERS) {
        window.parent.postMessage({ type: 'ai-credits:token-request', workspace: this.workspace }, origin);
      }
    });
  }

  #hear({ source, origin, data }) {
    if (source !== window.parent || !EMBEDDERS.includes(origin)) return;
    if (data?.type !== 'ai-credits:token' || typeof data.token !== 'string') return;
    this.parent = origin;
    this.#adopt(data.token);
  }

  #adopt(token) {
    this.#token = token;
    for (const done of this.#waiting.splice(0)) done();
    dispatchEvent(new Event('ai-credits:session'));
  }

  /** The address that answers `{token}`: on an allowed origin, and `https` or on this machine. */
  #refreshAddress() {
    const address = webAddress(this.settings.refresh);
    if (!address) return null;
    const { origin, protocol, hostname } = new URL(address);
    const safe = protocol === 'https:' || ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
    return safe && EMBEDDERS.includes(origin) ? address : null;
  }
}

/** The embedding page's origin, where the browser tells it and it is allowed. */
function embedder() {
  const [origin] = location.ancestorOrigins ?? [];
  return EMBEDDERS.includes(origin) ? origin : null;
}

function webAddress(text) {
  try {
    return ['http:', 'https:'].includes(new URL(text).protocol) ? text : null;
  } catch {
    return null;
  }
}

function claimsOf(token) {
  try {
    return JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
  } catch {
    return {};
  }
}
