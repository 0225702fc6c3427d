const MAX_PAUSE_MS = 2_000;
// setTimeout takes a longer time for none at all.
const MAX_TIMER_MS = 2 ** 31 - 1;
const RETRIED = new Set([429, 500, 502, 503, 504]);

/** Returns whether a status is retried. API Gateway answers 500 for a function that crashed. */
export function isRetried(status: number): boolean {
  return RETRIED.has(status);
}

/** Returns the pause before a retry in milliseconds: random below a growing bound, and at least `Retry-After`. */
export function pauseBefore(retry: number, firstPauseMs: number, retryAfter: string | null): number {
  const bound = Math.min(MAX_PAUSE_MS, firstPauseMs * 2 ** (retry - 1));
  return Math.max(Math.random() * bound, millisecondsOf(retryAfter));
}

/** Reads a `Retry-After`: seconds or an HTTP date. One that is neither is ignored. */
function millisecondsOf(retryAfter: string | null): number {
  if (retryAfter === null) return 0;
  const milliseconds = /^\d+$/.test(retryAfter.trim()) ? Number(retryAfter) * 1_000 : Date.parse(retryAfter) - Date.now();
  return Number.isNaN(milliseconds) ? 0 : Math.max(0, milliseconds);
}

/** Runs `work` with a signal that is aborted after a time, or with another signal. */
export async function within<T>(
  milliseconds: number,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController();
  const abort = () => limit.abort(signal?.reason);
  const timer = setTimeout(
    () => limit.abort(new DOMException(`No response in ${Math.round(milliseconds)} ms`, 'TimeoutError')),
    Math.min(milliseconds, MAX_TIMER_MS),
  );
  signal?.addEventListener('abort', abort, { once: true });
  try {
    return await work(limit.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/** Waits. Rejects with the signal's reason if it is aborted meanwhile. */
export async function wait(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const elapsed = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.min(milliseconds, MAX_TIMER_MS));
  });
  try {
    await orAborted(elapsed, signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Returns what a promise gives. Rejects with the signal's reason if it is aborted before. */
export async function orAborted<T>(promise: PromiseLike<T> | T, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  signal.throwIfAborted();
  let stop: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    if (stop) signal.removeEventListener('abort', stop);
  }
}
