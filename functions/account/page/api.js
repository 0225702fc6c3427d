// The API calls. The token comes in the URL's fragment, which browsers do not send. The page keeps it in memory only.
import { useCallback, useEffect, useState } from './preact.js';

/** A failed call, with the message of its `application/problem+json` body. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.errors?.map(error => `${error.field} ${error.message}`).join('; ') || body.detail || body.message);
    this.status = status;
    this.code = body.code;
  }
}

/**
 * Reads the fragment and removes it from the address. Its parts are `token`; `workspace`, if the token is for all
 * workspaces; and `workflows`, the address to which a workflow's id is appended, if the hub has such pages. The token's
 * scopes only decide what the page offers. The server checks what they allow.
 */
export function readFragment() {
  const given = new URLSearchParams(location.hash.slice(1));
  history.replaceState(null, '', location.pathname + location.search);
  const token = given.get('token');
  const claims = claimsOf(token);
  const workspace = given.get('workspace') ?? (claims.workspace === '*' ? null : claims.workspace);
  const workflows = /^https?:\/\//.test(given.get('workflows')) ? given.get('workflows') : null;
  return { token, workspace, workflows, manages: String(claims.scope).split(' ').includes('credits:manage') };
}

function claimsOf(token) {
  try {
    return JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
  } catch {
    return {};
  }
}

export class Api {
  #token;

  constructor(token, workspace) {
    this.#token = token;
    this.base = `/v1/workspaces/${encodeURIComponent(workspace)}`;
  }

  get(path) {
    return this.#json('GET', this.base + path);
  }

  catalog() {
    return this.#json('GET', '/v1/catalog');
  }

  put(path, body) {
    return this.#json('PUT', this.base + path, body);
  }

  remove(path) {
    return this.#json('DELETE', this.base + path);
  }

  /** Posts under an idempotency key. All attempts under one key are one order. */
  post(path, body, key) {
    return this.#json('POST', this.base + path, body, { 'idempotency-key': key });
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
    return new Blob(parts, { type: 'text/csv' });
  }

  async #json(method, path, body, headers) {
    return (await this.#fetch(method, path, body, headers)).json();
  }

  async #fetch(method, path, body, headers) {
    const type = body && { 'content-type': 'application/json' };
    const response = await fetch(path, {
      method,
      headers: { authorization: `Bearer ${this.#token}`, ...type, ...headers },
      body: body && JSON.stringify(body),
      cache: 'no-store',
    });
    if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
    return response;
  }
}

/** Loads now and whenever an element of `deps` changes. The previous value stays until the next one has loaded. */
export function useLoaded(load, deps) {
  const [state, setState] = useState({ value: null, problem: null });
  const [again, setAgain] = useState(0);
  useEffect(() => {
    let current = true;
    const done = (value, problem) => current && setState(was => ({ value: value ?? was.value, problem }));
    load().then(value => done(value, null), problem => done(null, problem));
    return () => { current = false; };
  }, [...deps, again]);
  return { ...state, reload: useCallback(() => setAgain(count => count + 1), []) };
}
