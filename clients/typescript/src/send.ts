import { AICreditsError, Unavailable, errorOf } from './errors.ts';
import { isRetried, orAborted, pauseBefore, wait, within } from './retry.ts';
import { VERSION } from './version.ts';

/** A call without a final response. The application may repeat it later. */
export interface Outage {
  method: string;
  /** The path without the base URL, such as `/v1/workspaces/acme/debits`. */
  path: string;
  /** The body of the request. */
  order: unknown;
  /** The key under which the call can be repeated. */
  idempotencyKey: string;
  error: Unavailable;
}

/** The options of a client. */
export interface ClientOptions {
  /** The address of AI Credits, with a path prefix if there is one. */
  baseUrl: string | URL;
  /** The key or token, or a function that returns it for each attempt. */
  apiKey: string | (() => string | PromiseLike<string>);
  /** The time for a call with its retries; 30 seconds by default. */
  deadlineMs?: number;
  /** The time for one attempt; 10 seconds by default. */
  attemptTimeoutMs?: number;
  /** The bound of the first pause, which doubles with each retry up to 2 seconds; 100 ms by default. */
  firstPauseMs?: number;
  /** Receives each POST under a workspace that ends without a final response, before the call throws `Unavailable`. */
  onOutage?: (outage: Outage) => void | PromiseLike<void>;
}

/** The options of a call. */
export interface CallOptions {
  /** The key under which a retry charges nothing twice; a UUID by default. */
  idempotencyKey?: string | undefined;
  /** Ends the call, which then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** The time for this call with its retries, in place of the client's. */
  deadlineMs?: number | undefined;
  /** Receives the details of the final response. */
  onResponse?: ((response: ResponseDetails) => void) | undefined;
}

/** The details of a response beside its body. */
export interface ResponseDetails {
  status: number;
  /** Whether an earlier attempt or call under the same key did the work. */
  replayed: boolean;
}

/** A request before it has a key and headers. */
export interface Request {
  method: string;
  path: string;
  query?: object | undefined;
  body?: unknown;
}

type Attempt = { response: ResponseDetails; body: unknown } | { failure: unknown; retryAfter: string | null };

/** A sender of calls, with retries until a final response or the deadline. */
export class Sender {
  readonly #base: string;
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    const { origin, pathname } = new URL(options.baseUrl);
    this.#base = origin + pathname.replace(/\/+$/, '');
    this.#options = options;
  }

  /** Sends a call and returns the JSON of its response. */
  async send(request: Request, options: CallOptions = {}): Promise<unknown> {
    const key = request.method === 'POST' ? (options.idempotencyKey ?? crypto.randomUUID()) : undefined;
    const prepared = new PreparedRequest(this.#base, request, key);
    const end = performance.now() + (options.deadlineMs ?? this.#options.deadlineMs ?? 30_000);
    for (let attempt = 1; ; attempt += 1) {
      const result = await this.#attempt(prepared, end - performance.now(), options.signal);
      if ('response' in result) {
        options.onResponse?.(result.response);
        return result.body;
      }
      const pause = pauseBefore(attempt, this.#options.firstPauseMs ?? 100, result.retryAfter);
      if (pause >= end - performance.now()) throw await this.#unavailable(request, attempt, key, result.failure);
      await wait(pause, options.signal);
    }
  }

  /** Sends a request once. Throws a final error, and returns one after which the request is sent again. */
  async #attempt(prepared: PreparedRequest, left: number, signal: AbortSignal | undefined): Promise<Attempt> {
    signal?.throwIfAborted();
    const { apiKey, attemptTimeoutMs = 10_000 } = this.#options;
    return within(Math.min(attemptTimeoutMs, left), signal, async (limit) => {
      const init = prepared.with(typeof apiKey === 'string' ? apiKey : await orAborted(apiKey(), limit), limit);
      try {
        const response = await fetch(prepared.url, init);
        return attemptOf(response, await response.text());
      } catch (failure) {
        signal?.throwIfAborted();
        if (failure instanceof AICreditsError) throw failure;
        return { failure, retryAfter: null };
      }
    });
  }

  /** Returns the error of a call that had no final response, after the hook has received it. */
  async #unavailable({ method, path, body }: Request, attempts: number, key: string | undefined, cause: unknown) {
    const error = new Unavailable(`${method} ${path}`, attempts, key, cause);
    if (key === undefined || !path.startsWith('/v1/workspaces/')) return error;
    try {
      await this.#options.onOutage?.({ method, path, order: body, idempotencyKey: key, error });
    } catch (hookError) {
      error.hookError = hookError;
    }
    return error;
  }
}

/** A request with everything that its attempts have in common. */
class PreparedRequest {
  readonly url: string;
  readonly #init: RequestInit;
  readonly #headers: Headers;

  constructor(base: string, { method, path, query, body }: Request, key: string | undefined) {
    this.url = base + path + queryOf(query);
    this.#headers = new Headers({ Accept: 'application/json', 'User-Agent': `ai-credits-typescript/${VERSION}` });
    if (key !== undefined) this.#headers.set('Idempotency-Key', key);
    if (body !== undefined) this.#headers.set('Content-Type', 'application/json');
    this.#init = { method, redirect: 'manual', ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
  }

  /** Returns the request of one attempt. */
  with(apiKey: string, signal: AbortSignal): RequestInit {
    this.#headers.set('Authorization', `Bearer ${apiKey}`);
    return { ...this.#init, headers: this.#headers, signal };
  }
}

function attemptOf(response: Response, text: string): Attempt {
  const { status, headers } = response;
  if (isRetried(status)) return { failure: errorOf(status, text), retryAfter: headers.get('Retry-After') };
  if (!response.ok) throw errorOf(status, text);
  try {
    const body: unknown = JSON.parse(text);
    return { response: { status, replayed: headers.has('Idempotent-Replayed') }, body };
  } catch (cause) {
    return { failure: new AICreditsError(`The response with status ${status} is not JSON`, { cause }), retryAfter: null };
  }
}

function queryOf(query: object | undefined): string {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text && `?${text}`;
}

/** Writes a path with its ids escaped. */
export function path(strings: TemplateStringsArray, ...ids: string[]): string {
  const escaped = ids.map((id) => {
    // A URL drops these segments, and the call would reach another resource.
    if (id === '' || id === '.' || id === '..') throw new TypeError(`${JSON.stringify(id)} is no id`);
    return encodeURIComponent(id);
  });
  return String.raw({ raw: strings }, ...escaped);
}
