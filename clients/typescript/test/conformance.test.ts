// Makes the calls of clients/conformance/cases.json, and has wire.js judge them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AICredits, InsufficientCredits, Refused, Unavailable, type Call, type Outage } from '@ai-credits/client';

// The methods of a workspace, with the ids of their paths.
const METHODS: Record<string, string[]> = {
  ...{ createDebit: [], createDebitBatch: [], refundDebit: ['debit_id'], createHold: [], createHolds: [], getHold: ['hold_id'] },
  ...{ createCapture: ['hold_id'], settleHold: ['hold_id'], settleHolds: [], createQuote: [], getBalance: [] },
  ...{ getUsage: [], getUsageHistory: [], createTopUp: [], getTopUp: ['top_up_id'], createRun: [] },
  ...{ completeRun: ['run_id'], getRun: ['run_id'], listLedgerEntries: [], listRuns: [] },
};

interface Case {
  name: string;
  base_url: string;
  verdict_url: string;
  client: { deadline_ms: number; attempt_timeout_ms: number; first_pause_ms: number; api_keys: string[]; on_outage: string };
  // The arguments of a method, which are its own.
  calls: any[];
}

class Thrown extends Error {
  override name = 'Thrown';
}

const wire = process.env['AI_CREDITS_WIRE'];
assert(wire, 'start the test by wire.js, which sets AI_CREDITS_WIRE');
const cases = (await (await fetch(`${wire}/_cases`)).json()) as Case[];
assert(cases.length > 0);

describe('conformance', { concurrency: true }, () => {
  for (const given of cases) test(given.name, () => judge(given));
});

async function judge(given: Case): Promise<void> {
  const outages: object[] = [];
  const driver = new Driver(clientOf(given, outages));
  const calls = [];
  for (const call of given.calls) calls.push(await driver.outcomeOf(call));
  const verdict = await fetch(given.verdict_url, { method: 'POST', body: JSON.stringify({ calls, outages }) });
  const { passed, problems } = (await verdict.json()) as { passed: boolean; problems: string[] };
  assert(passed, problems?.join('\n'));
}

function clientOf({ base_url: baseUrl, client }: Case, outages: object[]): AICredits {
  const keys = [...client.api_keys];
  return new AICredits({
    baseUrl,
    apiKey: keys.length === 1 ? keys[0]! : async () => (keys.length > 1 ? keys.shift()! : keys[0]!),
    deadlineMs: client.deadline_ms,
    attemptTimeoutMs: client.attempt_timeout_ms,
    firstPauseMs: client.first_pause_ms,
    onOutage: ({ method, path, order, idempotencyKey, error }: Outage) => {
      outages.push({ method, path, order, idempotency_key: idempotencyKey, error: error.name });
      if (client.on_outage === 'raise') throw new Thrown('the hook');
    },
  });
}

class Driver {
  readonly #client: AICredits;
  #call: Call | undefined;

  constructor(client: AICredits) {
    this.#client = client;
  }

  async outcomeOf(call: any): Promise<object> {
    const seen: { replayed?: boolean; entered?: boolean } = call.method === 'gate' ? { entered: false } : {};
    try {
      return { returns: await this.#make(call, seen), ...seen };
    } catch (error) {
      return { ...raised(error as Error), ...seen };
    }
  }

  #make(call: any, seen: { replayed?: boolean; entered?: boolean }): Promise<unknown> {
    const options = {
      ...(call.idempotency_key === undefined ? {} : { idempotencyKey: call.idempotency_key }),
      ...(call.deadline_ms === undefined ? {} : { deadlineMs: call.deadline_ms }),
    };
    const onResponse = ({ replayed }: { replayed: boolean }) => void (seen.replayed = replayed);
    if (call.method in METHODS) return this.#ofWorkspace(call, { ...options, onResponse });
    switch (call.method) {
      case 'putWorkspace':
        return this.#client.putWorkspace(call.workspace, call.order, { ...options, onResponse });
      case 'getWorkspace':
        return this.#client.getWorkspace(call.workspace, { ...options, onResponse });
      case 'getCatalog':
        return this.#client.getCatalog(call.query, { ...options, onResponse });
      case 'request':
        return this.#request(call, { ...options, onResponse });
      default:
        return this.#scoped(call, options, seen);
    }
  }

  #ofWorkspace(call: any, options: object): Promise<unknown> {
    const ids = METHODS[call.method]!.map((id) => call[id]);
    const content = call.method === 'completeRun' ? [] : /^(create|refund|settle)/.test(call.method) ? [call.order] : [call.query];
    const takesContent = !['getHold', 'getTopUp', 'getRun', 'getBalance'].includes(call.method);
    const workspace = this.#client.workspace(call.workspace) as any;
    const result = workspace[call.method](...ids, ...(takesContent ? content : []), options);
    if (!call.method.startsWith('list')) return result;
    return call.page ? result.page() : Array.fromAsync(result);
  }

  #request({ http_method: method, path, query, body, items }: any, options: object): Promise<unknown> {
    if (items === undefined) return this.#client.request(method, path, { query, body, ...options });
    return Array.fromAsync(this.#client.list(path, items, { query, ...options }));
  }

  async #scoped(call: any, options: object, seen: { entered?: boolean }): Promise<unknown> {
    const { method, order, units, model, estimated } = call;
    switch (method) {
      case 'begin':
        this.#call = await this.#client.workspace(call.workspace).begin(order, options);
        return { hold_id: this.#call.holdId };
      case 'finish':
        return this.#call!.finish(units, { ...(model ? { model } : {}), ...(estimated ? { estimated } : {}), ...options });
      case 'cancel':
        return this.#call!.cancel(options);
      case 'gate':
        return this.#client.workspace(call.workspace).gate(
          order,
          (held) => {
            seen.entered = true;
            for (const used of call.use) held.use(used);
            if (call.then === 'throw') throw new Thrown('the scope');
            return 'done';
          },
          options,
        );
      default:
        throw new Error(`the driver has no method ${method}`);
    }
  }
}

function raised(error: Error): object {
  return { raises: error.name, fields: fieldsOf(error), message: error.message };
}

function fieldsOf(error: Error): object {
  if (error instanceof InsufficientCredits) {
    const { required, available, shortfall, topUpUrl, prompt, topUp } = error;
    return { required, available, shortfall, top_up_url: topUpUrl, prompt, top_up: topUp ?? null };
  }
  if (error instanceof Refused) return { status: error.status, code: error.code, detail: error.detail, errors: error.errors };
  if (error instanceof Unavailable) return { attempts: error.attempts, idempotency_key: error.idempotencyKey ?? null };
  return {};
}
