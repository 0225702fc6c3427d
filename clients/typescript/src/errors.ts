/** An error of this client. */
export class AICreditsError extends Error {
  override name = 'AICreditsError';
}

/** A refusal because the balance does not cover the call. Nothing was charged, and the AI call must not follow. */
export class InsufficientCredits extends AICreditsError {
  override name = 'InsufficientCredits';
  /** The credits that the call costs, as a decimal. */
  readonly required: string;
  /** The credits that it may spend, as a decimal. */
  readonly available: string;
  /** `required` less `available`. */
  readonly shortfall: string;
  /** The address of the page on which the user adds credits. */
  readonly topUpUrl: string;
  /** A sentence for the user. */
  readonly prompt: string;
  /** The state of automatic top-up; absent if it is off. `started`: retry with the same key in a few seconds. */
  readonly topUp: string | undefined;

  constructor(problem: Record<string, unknown>) {
    super(String(problem['detail'] ?? problem['prompt']));
    this.required = String(problem['required']);
    this.available = String(problem['available']);
    this.shortfall = String(problem['shortfall']);
    this.topUpUrl = String(problem['top_up_url']);
    this.prompt = String(problem['prompt']);
    this.topUp = typeof problem['top_up'] === 'string' ? problem['top_up'] : undefined;
  }
}

/** A field of the request that was refused. */
export interface FieldError {
  /** The field's path, such as `units.output_tokens`. Empty for the body itself. */
  field: string;
  message: string;
}

/** A response other than success and insufficient credits. */
export class Refused extends AICreditsError {
  override name = 'Refused';
  readonly status: number;
  /** The problem's code, such as `invalid_request`; `http_STATUS` if the response has none. */
  readonly code: string;
  readonly detail: string;
  readonly errors: FieldError[];

  constructor(status: number, code: string, detail: string, errors: FieldError[]) {
    super(`${status} ${code}: ${detail}`);
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.errors = errors;
  }
}

/** A call that had no final response before its deadline. `cause` is the error of the last attempt. */
export class Unavailable extends AICreditsError {
  override name = 'Unavailable';
  readonly attempts: number;
  /** The key under which the call can be repeated; absent for a GET, PUT or DELETE. */
  readonly idempotencyKey: string | undefined;
  /** The error that `onOutage` threw. */
  hookError?: unknown;

  constructor(call: string, attempts: number, idempotencyKey: string | undefined, cause: unknown) {
    const key = idempotencyKey === undefined ? '' : ` with the same key, ${JSON.stringify(idempotencyKey)}`;
    super(`${call} had no final response in ${attempts} attempts. It may have been carried out, and can be repeated${key}.`, {
      cause,
    });
    this.attempts = attempts;
    this.idempotencyKey = idempotencyKey;
  }
}

/** A refusal of a wrapper to make a call that it does not gate. */
export class NotGated extends AICreditsError {
  override name = 'NotGated';
}

/** Returns the error that a response other than success stands for. */
export function errorOf(status: number, body: string): InsufficientCredits | Refused {
  const problem = objectOf(body);
  const message = typeof problem['message'] === 'string' ? problem['message'] : undefined;
  const code = typeof problem['code'] === 'string' ? problem['code'] : message?.toLowerCase().replaceAll(' ', '_');
  if (status === 402 && code === 'insufficient_credits') return new InsufficientCredits(problem);
  const detail = typeof problem['detail'] === 'string' ? problem['detail'] : (message ?? body.slice(0, 200));
  const errors = Array.isArray(problem['errors']) ? (problem['errors'] as FieldError[]) : [];
  return new Refused(status, code ?? `http_${status}`, detail, errors);
}

function objectOf(body: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
  } catch {
    return {};
  }
}
