// Delivers Stripe's events, in the forms of several API versions, to a running `cargo local` at AI_CREDITS_LOCAL. The
// types of each version check its fixtures. Stripe's own library signs the events.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { apiVersionOf } from './compile.js';
import { EXPECTATIONS, OF_OTHERS } from './expectations.js';
import { openStack } from './stack.js';
import { VERSIONS, compiled } from './versions.js';

const versions = Object.keys(VERSIONS);
const fixtures = {};
let stack;

before(async () => {
  stack = await openStack();
  for (const version of versions) {
    const { messages, module } = compiled(version);
    assert.deepEqual(messages, [], `the fixtures of ${version} don't compile`);
    fixtures[version] = await import(module);
  }
});

async function acknowledged(event) {
  assert.deepEqual(await stack.deliver(event), { status: 200, body: { received: true } }, event.type);
}

async function check(version, { event, after = [], sale: changes, available }) {
  const sale = { ...(await stack.openSale()), ...changes };
  const events = fixtures[version].events(sale);
  for (const name of [...after, event]) await acknowledged(events[name]);
  if (available !== undefined) assert.equal(await stack.available(sale.workspace), available);
}

const titleOf = ({ event, after = [] }) => [...after, event].join(' > ');

const sample = { workspace: 'w', topUp: 'top_1', amount: 1000, refunded: 1000, created: 0 };
const namesOf = version => Object.keys(fixtures[version].events(sample));

test('each_version_is_that_of_its_types', () => {
  for (const [version, alias] of Object.entries(VERSIONS)) {
    assert.equal(apiVersionOf(alias), version);
    for (const event of Object.values(fixtures[version].events(sample))) assert.equal(event.api_version, version);
  }
});

test('every_event_of_every_version_is_expected', () => {
  const expected = new Set(EXPECTATIONS.map(({ event }) => event));
  for (const version of versions) {
    assert.deepEqual(namesOf(version).filter(name => !expected.has(name)), [], version);
  }
  assert.deepEqual([...expected].sort(), namesOf(versions.at(-1)).sort(), 'the newest version has every event');
});

for (const version of versions) {
  test(`the_events_of_${version.replaceAll(/[-.]/g, '_')}_change_what_they_should`, { concurrency: 8 }, async context => {
    const known = new Set(namesOf(version));
    const rows = EXPECTATIONS.filter(({ event }) => known.has(event));
    await Promise.all(rows.map(row => context.test(titleOf(row), () => check(version, row))));
  });
}

for (const [name, alter] of Object.entries(OF_OTHERS)) {
  test(`a_payment_${name.replaceAll(' ', '_')}_is_ignored`, async () => {
    for (const version of versions) {
      const sale = await stack.openSale();
      await acknowledged(alter(fixtures[version].events(sale)['checkout.session.completed, paid']));
      assert.equal(await stack.available(sale.workspace), '0', version);
      assert.ok(!(await stack.unmatched()).includes(sale.payment), `${version}: it waits for an operator`);
    }
  });
}
