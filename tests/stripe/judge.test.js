// Tests of the judge: it accepts what Stripe's own library sends, and reports each kind of wrong request.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import Stripe from 'stripe';
import { fileHere, temporaryFolder } from './compile.js';
import { methods } from './routes.js';
import { API_VERSION, judge } from './verdict.js';

/** The arguments for each method of the library that the judge knows. */
const ARGUMENTS = {
  'checkout.sessions.create': [{
    mode: 'payment', client_reference_id: '1000', success_url: 'https://hub.test/?a=[b]&c', customer_creation: 'always',
    expires_at: 1_800_000_000, allow_promotion_codes: false, metadata: { workspace_id: '12', empty: '' },
    line_items: [
      { quantity: 1, price_data: { currency: 'usd', unit_amount: 1000, product_data: { name: '1000' } } },
      { quantity: 2, price: 'price_1' },
    ],
    payment_intent_data: { setup_future_usage: 'off_session', metadata: { workspace_id: 'true' } },
  }],
  'checkout.sessions.list': [{ payment_intent: 'pi_1', limit: 1, expand: ['data.line_items'] }],
  'checkout.sessions.retrieve': ['cs_1', { expand: ['payment_intent'] }],
  'checkout.sessions.expire': ['cs_1'],
  'paymentIntents.create': [{
    amount: 900, currency: 'usd', customer: 'cus_1', payment_method: 'pm_1', off_session: true, confirm: true,
    error_on_requires_action: true, description: '2000', metadata: { purchase_id: 'sub_1-2-0' },
    automatic_payment_methods: { enabled: true, allow_redirects: 'never' },
  }],
  'paymentIntents.list': [{ customer: 'cus_1', limit: 100, created: { gte: 1_790_000_000 } }],
  'paymentIntents.retrieve': ['pi_1', { expand: ['latest_charge'] }],
  'paymentIntents.cancel': ['pi_1', { cancellation_reason: 'abandoned' }],
  'customers.retrieve': ['cus_1'],
  'customers.del': ['cus_1'],
  'customers.listPaymentMethods': ['cus_1', { type: 'card', limit: 1 }],
  'customers.retrievePaymentMethod': ['cus_1', 'pm_1'],
  'paymentMethods.retrieve': ['pm_1'],
  'paymentMethods.detach': ['pm_1'],
  'refunds.create': [{ payment_intent: 'pi_1', amount: 250, reason: 'requested_by_customer' }],
  'refunds.list': [{ payment_intent: 'pi_1', limit: 100 }],
  'refunds.retrieve': ['re_1'],
};

const pairs = text => [...new URLSearchParams(text)];

/** Calls every method of the library, and records the requests as the test suite records the client's. */
async function recordLibrary() {
  const lines = [];
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString();
    const { pathname, search } = new URL(request.url, 'http://127.0.0.1');
    const version = request.headers['stripe-version'];
    lines.push({ method: request.method, path: pathname, query: pairs(search), form: pairs(body), version, status: 200 });
    response.setHeader('content-type', 'application/json').end('{}');
  });
  await new Promise(listening => server.listen(0, '127.0.0.1', listening));
  const stripe = new Stripe('sk_test_judge', { protocol: 'http', host: '127.0.0.1', port: server.address().port });
  for (const method of methods()) {
    const names = method.split('.');
    const resource = names.slice(0, -1).reduce((parent, name) => parent[name], stripe);
    await resource[names.at(-1)](...ARGUMENTS[method]);
  }
  server.closeAllConnections();
  server.close();
  return lines;
}

const record = requests => requests.map(request => JSON.stringify(request)).join('\n');

const request = (method, path, parameters, others = {}) => ({
  method, path, query: method === 'GET' ? parameters : [], form: method === 'GET' ? [] : parameters,
  version: API_VERSION, status: 200, ...others,
});

const CHARGE = [['amount', '900'], ['currency', 'usd']];
const charge = (...parameters) => request('POST', '/v1/payment_intents', [...CHARGE, ...parameters]);
const sale = (...parameters) => request('POST', '/v1/checkout/sessions', [['mode', 'payment'], ...parameters]);

/** Wrong requests, each with the judge's message. */
const WRONG = [
  [charge(['surprise', '1']), /'"surprise"' does not exist in type 'PaymentIntentCreateParams'/],
  [charge(['payment_method_types[]', 'card']), /'"payment_method_types"' does not exist/],
  [
    charge(['automatic_payment_methods[enabled]', 'true'], ['automatic_payment_methods[surprise]', '1']),
    /'"surprise"' does not exist in type 'AutomaticPaymentMethods'/,
  ],
  [sale(['line_items[0][price_data][product_data][surprise]', '1']), /surprise/],
  [sale(['line_items[0][quantity]', '1'], ['line_items[0][surprise]', '']), /'"surprise"' does not exist/],
  [charge(['application_fee_amount', '1.5']), /"1.5"' is not assignable to parameter of type '`\$\{bigint\}`'/],
  [charge(['confirm', '1']), /"1"' is not assignable/],
  [charge(['capture_method', 'later']), /"later"' is not assignable/],
  [charge(['description[0]', 'a']), /is not assignable to type 'string'/],
  [charge(['metadata', 'a']), /"a"' is not assignable/],
  [sale(['line_items[quantity]', '1']), /line_items/],
  [request('POST', '/v1/payment_intents', [['amount', '900']]), /'currency' is missing/],
  [request('GET', '/v1/payment_intents', [['created[since]', '1']]), /'"since"' does not exist/],
  [request('DELETE', '/v1/customers/cus_1', [], { query: [['surprise', '1']] }), /a deletion takes no parameter/],
  [request('POST', '/v1/payment_intents', CHARGE, { query: [['limit', '1']] }), /in the wrong place: limit/],
  [request('POST', '/v1/surprise', []), /the path is unknown/],
  [request('GET', '/v1/payment_intents/pi_1/surprise', []), /the path is unknown/],
  [{ ...charge(), version: '2024-06-20' }, /the API version is 2024-06-20; the types are of 20\d\d-/],
  [{ ...charge(), version: undefined }, /the API version is undefined/],
  [charge(['metadata[a', 'b']), /a parameter's name can't be read/],
  [charge(['amount', '900']), /a parameter is given twice/],
  [charge(['amount[a]', '900']), /a parameter has a value and members/],
  [sale(['line_items[1][quantity]', '1']), /a list's index 1 stands at 0/],
  [{ method: 'POST' }, /the line is no recorded request/],
];

test('every_request_of_stripes_own_library_is_accepted', async () => {
  const recorded = await recordLibrary();
  assert.deepEqual(judge(record(recorded)), { requests: methods().length, calls: methods().length, faults: [] });
});

test('each_wrong_request_is_reported_with_its_line', () => {
  const { faults } = judge(record(WRONG.flatMap(([wrong]) => [charge(), wrong])));
  assert.deepEqual([...new Set(faults.map(({ line }) => line))], WRONG.map((_, index) => 2 * index + 2));
  for (const [index, [, expected]] of WRONG.entries()) {
    const messages = faults.filter(({ line }) => line === 2 * index + 2).map(({ message }) => message);
    assert.match(messages.join('\n'), expected);
  }
});

test('what_is_no_json_is_reported', () => {
  assert.match(judge('{').faults[0].message, /JSON/);
});

test('the_command_fails_for_a_fault_an_empty_and_a_missing_file', () => {
  const file = join(temporaryFolder(), 'requests.jsonl');
  const judged = (contents, path = file) => {
    writeFileSync(file, contents);
    return spawnSync(process.execPath, [fileHere('judge.js'), path], { encoding: 'utf8' });
  };
  assert.equal(judged(record([charge()])).status, 0);
  const faulty = judged(record([charge(), charge(['surprise', '1'])]));
  assert.deepEqual([faulty.status, faulty.stderr.startsWith(`${file}:2: POST /v1/payment_intents: `)], [1, true]);
  assert.equal(judged('').status, 1);
  assert.equal(judged('\n\n').status, 1);
  assert.equal(judged('', `${file}.none`).status, 1);
  assert.equal(judged('', '').status, 1);
});
