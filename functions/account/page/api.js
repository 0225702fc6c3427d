// The API calls of one workspace. A token that has ended is renewed once per call, without a word.

const TIMEOUT_MS = 30_000;

/** A failed call. `status` is 0 if there was no answer. */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.detail ?? body.message ?? String(status));
    this.status = status;
    this.code = body.code;
    this.body = body;
    this.fields = body.errors ?? [];
  }
}

export class Api {
  #session;
  #cache = new Map();

  constructor(session) {
    this.#session = session;
  }

  get base() {
    return `/v1/workspaces/${encodeURIComponent(this.#session.workspace)}`;
  }

  get(path) {
    return this.#json('GET', this.base + path);
  }

  /** Gets a path once for each value of `moves`, which increases when credits have moved. A failure is not kept. */
  cached(path, moves) {
    const known = this.#cache.get(path);
    if (known?.moves === moves) return known.answer;
    const answer = path.startsWith('/v1/') ? this.#json('GET', path) : this.get(path);
    this.#cache.set(path, { moves, answer });
    answer.catch(() => this.#cache.delete(path));
    return answer;
  }

  /** Lets the next `cached` call of the paths that begin so ask again. */
  forget(prefix) {
    for (const path of this.#cache.keys()) if (path.startsWith(prefix)) this.#cache.delete(path);
  }

  put(path, body) {
    return this.#json('PUT', this.base + path, body);
  }

  remove(path) {
    return this.#json('DELETE', this.base + path);
  }

  /** Posts under an idempotency key. All attempts under one key are one order. */
  post(path, body, key) {
    return this.#json('POST', this.base + path, body, key && { 'idempotency-key': key });
  }

  /** Downloads all pages of the ledger as one CSV file. */
  async csv(path) {
    const parts = [];
    for (let next = this.base + path; next; ) {
      const response = await this.#fetch('GET', next);
      const text = await response.text();
      parts.push(parts.length ? text.slice(text.indexOf('\n') + 1) : text);
      next = /<([^>]+)>; rel="next"/.exec(response.headers.get('link'))?.[1];
    }
    return parts;
  }

  async #json(...call) {
    return (await this.#fetch(...call)).json();
  }

  async #fetch(...call) {
    let response = await this.#send(...call);
    if (response.status === 401 && await this.#session.renew()) response = await this.#send(...call);
    if (response.status === 401) dispatchEvent(new Event('ai-credits:ended'));
    if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
    return response;
  }

  async #send(method, path, body, headers) {
    const type = body && { 'content-type': 'application/json' };
    try {
      return await fetch(path, {
        method,
        headers: { authorization: `Bearer ${this.#session.token}`, ...type, ...headers },
        body: body && JSON.stringify(body),
        cache: 'no-store',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
    } catch {
      throw new Problem(0);
    }
  }
}
