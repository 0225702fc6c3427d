// A reference client that passes all cases, and defects that it may have. The tests of the judge use both.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

const RETRIED = [429, 500, 502, 503, 504];
const PARENTS = {
  reasoning_tokens: 'output_tokens', audio_output_tokens: 'output_tokens', cached_input_tokens: 'input_tokens',
  cache_write_tokens: 'input_tokens', audio_input_tokens: 'input_tokens', tool_calls: undefined,
};

/** An error with a name and fields, as a verdict states it. */
export class Failure extends Error {
  constructor(name, message, fields = {}) {
    super(message);
    this.name = name;
    this.fields = fields;
  }
}

/** Sends calls with retries. `defect` names what the client does wrong; `undefined` for a correct client. */
export class Client {
  #folded = new Map();

  constructor({ base_url, options, onOutage, defect }) {
    this.base = base_url.replace(/\/$/, '');
    this.options = options;
    this.onOutage = onOutage;
    this.defect = defect;
  }

  async send(method, path, { query, order, idempotency_key, deadline_ms } = {}) {
    const key = method === 'POST' ? (idempotency_key ?? this.#newKey()) : null;
    const search = query ? `?${new URLSearchParams(query)}` : '';
    const call = { method, path, order, key, url: `${this.base}${path}${search}` };
    call.deadline = Date.now() + (deadline_ms ?? this.options.deadline_ms);
    try {
      const answer = await this.#retry(call);
      return this.defect === 'returns nothing' ? { body: {} } : answer;
    } catch (error) {
      if (error.name !== 'Unavailable') throw error;
      if (this.defect === 'swallows the outage') return { body: {} };
      if (this.#isOutage(method, path)) {
        await this.onOutage({ method, path, order, idempotency_key: key, error: error.name }).catch(() => {});
      }
      throw error;
    }
  }

  #isOutage(method, path) {
    if (this.defect === 'calls no hook') return false;
    return (method === 'POST' || this.defect === 'calls the hook for a GET') && path.startsWith('/v1/workspaces/');
  }

  #newKey() {
    return this.defect === 'makes one key for all calls' ? '3f2b8c1e-7d43-4c56-9a0b-1c2d3e4f5a6b' : randomUUID();
  }

  async #retry(call) {
    for (let attempt = 1; ; attempt++) {
      const failed = await this.#attempt(call, attempt);
      if (failed.answer) return failed.answer;
      const jitter = Math.random() * Math.min(2000, this.options.first_pause_ms * 2 ** (attempt - 1));
      const backoff = Math.max(jitter, failed.after);
      const ends = Date.now() + backoff >= call.deadline || this.defect === 'never retries';
      if (ends || (this.defect === 'gives up after five attempts' && attempt === 5)) {
        const message = 'The call may have been carried out. Repeat it with the same key.';
        throw new Failure('Unavailable', message, { attempts: attempt, idempotency_key: call.key });
      }
      await sleep(backoff);
    }
  }

  /** Returns the answer, or after how many milliseconds to retry. Throws a refusal. */
  async #attempt({ method, url, order, key, deadline }, attempt) {
    const keys = this.options.api_keys;
    const headers = { accept: 'application/json', authorization: `Bearer ${keys[Math.min(attempt, keys.length) - 1]}` };
    if (key) headers['idempotency-key'] = this.defect === 'makes a key per attempt' ? randomUUID() : key;
    if (order) headers['content-type'] = 'application/json';
    const timeout = Math.max(1, Math.min(this.options.attempt_timeout_ms, deadline - Date.now()));
    const redirect = this.defect === 'follows redirects' ? 'follow' : 'manual';
    const signal = this.defect === 'waits forever' ? undefined : AbortSignal.timeout(timeout);
    let response;
    try {
      response = await fetch(url, { method, headers, body: order && JSON.stringify(order), redirect, signal });
      return this.#read(response, await response.text());
    } catch (error) {
      if (error instanceof Failure) throw error;
      return this.defect === 'takes half a response for success' && response?.ok ? { answer: { body: {} } } : { after: 0 };
    }
  }

  #read({ status, ok, headers }, text) {
    const retried = RETRIED.includes(status) || (status === 422 && this.defect === 'retries a 422');
    if (retried) return { after: this.#retryAfter(headers.get('retry-after')) };
    const body = parseJson(text);
    if (ok || (status === 401 && this.defect === 'takes a 401 for success')) {
      return body === undefined ? { after: 0 } : { answer: { body, replayed: headers.has('idempotent-replayed') } };
    }
    throw refusal(status, body);
  }

  #retryAfter(after) {
    if (!after || this.defect === 'ignores Retry-After') return 0;
    if (/^\d+$/.test(after)) return Number(after) * 1000;
    return this.defect === 'ignores dates in Retry-After' ? 0 : Math.max(0, Date.parse(after) - Date.now() || 0);
  }

  /** Sends an order with units, and folds those that are not priced. `purpose` is the operation and model. */
  async sendUnits(path, order, key, purpose) {
    let units = compact(order.units);
    for (;;) {
      const folded = this.defect === 'folds nothing' ? units : fold(units, this.#folded.get(purpose) ?? []);
      try {
        return await this.send('POST', path, { order: { ...order, units: folded }, idempotency_key: key });
      } catch (error) {
        const unpriced = unpricedUnits(error, folded);
        if (!unpriced.length || this.defect === 'folds nothing') throw error;
        this.#folded.set(purpose, [...(this.#folded.get(purpose) ?? []), ...unpriced]);
        units = folded;
      }
    }
  }
}

/** An AI call that is paid from a hold. */
export class Call {
  #settled;

  constructor(client, workspace, { overrun = 'take_available', ttl_seconds = 900, ...order }, key) {
    this.client = client;
    this.path = `/v1/workspaces/${encodeURIComponent(workspace)}/holds`;
    this.order = { ...order, ttl_seconds };
    this.overrun = overrun;
    this.key = key ?? randomUUID();
  }

  async begin() {
    this.hold = (await this.client.sendUnits(this.path, this.order, this.key, this.#purpose(this.order.model))).body;
    return { hold_id: this.hold.hold_id };
  }

  finish(units, { model = this.order.model, estimated } = {}) {
    if (this.client.defect === 'drops the settlement') return this.hold;
    const isMarked = estimated && this.client.defect !== 'hides estimates';
    const metadata = isMarked ? { ...this.order.metadata, usage: 'estimated' } : undefined;
    const order = { units, model, overrun: this.overrun, metadata };
    if (this.client.defect === 'settles twice') this.#settled = undefined;
    this.#settled ??= this.client.sendUnits(this.#settlePath(), order, `${this.key}/settle`, this.#purpose(model));
    return this.#settled.then(({ body }) => body);
  }

  cancel() {
    this.#settled ??= this.client.send('POST', this.#settlePath(), { order: {}, idempotency_key: `${this.key}/settle` });
    return this.#settled.then(({ body }) => body);
  }

  #settlePath() {
    return `${this.path}/${this.hold.hold_id}/settle`;
  }

  #purpose(model) {
    const { operation } = this.order;
    return this.client.defect === 'folds for all models' ? operation : `${operation} ${model}`;
  }
}

function refusal(status, body) {
  const { code, message, detail, errors = [] } = body ?? {};
  if (status === 402 && code === 'insufficient_credits') return new Failure('InsufficientCredits', detail, body);
  const named = code ?? message?.toLowerCase().replaceAll(' ', '_') ?? `http_${status}`;
  return new Failure('Refused', detail ?? message ?? named, { status, code: named, detail: detail ?? message, errors });
}

function compact(units) {
  const used = Object.entries(units).filter(([, count]) => count > 0);
  return used.length ? Object.fromEntries(used) : units;
}

function fold(units, unpriced) {
  const folded = { ...units };
  for (const unit of unpriced) {
    const count = folded[unit] ?? 0;
    delete folded[unit];
    if (count && PARENTS[unit]) folded[PARENTS[unit]] = (folded[PARENTS[unit]] ?? 0) + count;
  }
  return folded;
}

/** Returns the units of a refused order that are not priced and that can be folded. */
function unpricedUnits({ fields }, units) {
  if (fields?.status !== 422) return [];
  const named = fields.errors.map(({ field }) => field.replace(/^units\./, ''));
  return named.filter((unit) => unit in PARENTS && unit in units);
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
