// The driver of the reference client: runs all cases, and returns the problems of each.
import { Call, Client, Failure } from './client.js';

const segment = encodeURIComponent;
const PATHS = {
  createDebit: () => '/debits', createDebitBatch: () => '/debits/batch',
  refundDebit: ({ debit_id }) => `/debits/${segment(debit_id)}/refund`,
  createHold: () => '/holds', createHolds: () => '/holds/batch', settleHolds: () => '/holds/batch/settle',
  getHold: ({ hold_id }) => `/holds/${segment(hold_id)}`, createCapture: ({ hold_id }) => `/holds/${segment(hold_id)}/captures`,
  settleHold: ({ hold_id }) => `/holds/${segment(hold_id)}/settle`, createQuote: () => '/quotes', getBalance: () => '/balance',
  listLedgerEntries: () => '/ledger', getUsage: () => '/usage', getUsageHistory: () => '/usage/history',
  createTopUp: () => '/top-ups',
  getTopUp: ({ top_up_id }) => `/top-ups/${segment(top_up_id)}`, createRun: () => '/runs', listRuns: () => '/runs',
  getRun: ({ run_id }) => `/runs/${segment(run_id)}`, completeRun: ({ run_id }) => `/runs/${segment(run_id)}/complete`,
  getWorkspace: () => '', putWorkspace: () => '',
};
const ITEMS = { listLedgerEntries: 'entries', listRuns: 'runs' };

/** Runs all cases with a client that has a defect, or none. Returns the problems by the names of the cases. */
export async function drive(url, defect) {
  const cases = await (await fetch(`${url}/_cases`)).json();
  const results = await Promise.all(cases.map((it) => runCase(it, defect)));
  return new Map(results.filter(([, problems]) => problems.length));
}

async function runCase({ name, base_url, verdict_url, client: options, calls }, defect) {
  const outages = [];
  const onOutage = async (outage) => {
    outages.push(outage);
    if (options.on_outage === 'raise') throw new Error('the hook failed');
  };
  const client = new Client({ base_url, options, onOutage, defect });
  const [outcomes, state] = [[], {}];
  for (const call of calls) outcomes.push(await outcome(client, call, state));
  const verdict = JSON.stringify({ calls: outcomes, outages });
  const { problems } = await (await fetch(verdict_url, { method: 'POST', body: verdict })).json();
  return [name, problems];
}

async function outcome(client, call, state) {
  const seen = call.method === 'gate' ? { entered: false } : {};
  try {
    return { ...(await perform(client, call, state, seen)), ...seen };
  } catch (error) {
    return { raises: error.name, fields: error.fields, message: error.message, ...seen };
  }
}

async function perform(client, call, state, seen) {
  const { method, workspace, order, idempotency_key: key } = call;
  if (method === 'begin') {
    state.call = new Call(client, workspace, order, key);
    return { returns: await state.call.begin() };
  }
  if (method === 'finish') return { returns: await state.call.finish(call.units, call) };
  if (method === 'cancel') return { returns: await state.call.cancel() };
  if (method === 'gate') return { returns: await gate(new Call(client, workspace, order, key), call, seen) };
  return send(client, call);
}

async function gate(call, { use, then }, seen) {
  const entersRefused = call.client.defect === 'enters a refused scope';
  await call.begin().catch((error) => {
    if (!entersRefused) throw error;
  });
  seen.entered = true;
  const settle = () => (use.length ? call.finish(use.at(-1)) : call.cancel());
  if (then === 'throw') {
    await Promise.resolve(settle()).catch(() => {});
    throw new Failure('Thrown', 'the scope failed');
  }
  await settle();
  return 'done';
}

async function send(client, call) {
  const { method, workspace, page, http_method, path, body, items = ITEMS[method] } = call;
  if (method === 'request') {
    const options = { ...call, order: body };
    return items ? iterate(client, path, options, items) : answer(await client.send(http_method, path, options));
  }
  if (method === 'getCatalog') return answer(await client.send('GET', '/v1/catalog', call));
  const escaped = `/v1/workspaces/${segment(workspace)}${PATHS[method](call)}`;
  const whole = client.defect === 'escapes no slash' ? escaped.replaceAll('%2F', '/') : escaped;
  if (items && !page) return iterate(client, whole, call, items);
  const verb = /^(get|list)/.test(method) ? 'GET' : method.startsWith('put') ? 'PUT' : 'POST';
  return answer(await client.send(verb, whole, call));
}

const answer = ({ body, replayed }) => ({ returns: body, replayed });

async function iterate(client, path, call, items) {
  const returns = [];
  for (let cursor; cursor !== null; ) {
    const { body } = await client.send('GET', path, { ...call, query: { ...call.query, ...(cursor && { cursor }) } });
    returns.push(...body[items]);
    cursor = client.defect === 'reads one page' ? null : body.next_cursor;
  }
  return { returns };
}
