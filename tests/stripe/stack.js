// Calls of a running `cargo local`, and the deliveries that Stripe makes to it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import Stripe from 'stripe';

const base = process.env.AI_CREDITS_LOCAL;
const WEBHOOK_SECRET = process.env.STRIPE_WEBHOOK_SECRET ?? 'whsec_local';
const stripe = new Stripe('sk_test_unused');

async function answer(path, options) {
  const response = await fetch(base + path, options);
  return { status: response.status, body: await response.json() };
}

async function local(path, body) {
  const { status, body: answered } = await answer(path, { method: 'POST', body: JSON.stringify(body) });
  assert.equal(status, 200, path);
  return answered;
}

/** Connects to the stack with a token for all workspaces, and reads its clock. */
export async function openStack() {
  const { token } = await local('/_local/tokens', { workspace: '*', scope: 'credits:spend credits:read credits:manage' });
  const { now } = await local('/_local/clock', { advance_seconds: 0 });
  return new Stack(token, Math.floor(Date.parse(now) / 1000));
}

class Stack {
  #token;

  constructor(token, now) {
    this.#token = token;
    this.now = now;
  }

  #call(method, path, body) {
    const headers = {
      authorization: `Bearer ${this.#token}`, 'content-type': 'application/json', 'idempotency-key': randomUUID(),
    };
    return answer(path, { method, headers, body: body && JSON.stringify(body) });
  }

  /** Opens a top-up in a new workspace, and invents ids for the objects that Stripe would create for it. */
  async openSale() {
    const workspace = `stripe-${randomUUID()}`;
    const named = { name: 'Acme', plan: 'free', billing_email: 'billing@acme.example' };
    assert.equal((await this.#call('PUT', `/v1/workspaces/${workspace}`, named)).status, 201);
    const { status, body } = await this.#call('POST', `/v1/workspaces/${workspace}/top-ups`, { pack: 'pack_1k' });
    assert.equal(status, 201);
    const of = prefix => `${prefix}_${randomUUID().replaceAll('-', '')}`;
    return {
      workspace, topUp: body.top_up_id, checkout: body.checkout_id, payment: of('pi'), charge: of('ch'), refund: of('re'),
      dispute: of('dp'), customer: of('cus'), amount: body.price.amount, refunded: body.price.amount, created: this.now,
    };
  }

  /** Delivers an event, signed by Stripe's own library. */
  async deliver(event) {
    const payload = JSON.stringify(event);
    const signature = stripe.webhooks.generateTestHeaderString({ payload, secret: WEBHOOK_SECRET, timestamp: this.now });
    const headers = { 'stripe-signature': signature, 'content-type': 'application/json' };
    return answer('/v1/webhooks/stripe', { method: 'POST', headers, body: payload });
  }

  async available(workspace) {
    const { status, body } = await this.#call('GET', `/v1/workspaces/${workspace}/balance`);
    assert.equal(status, 200);
    return body.available;
  }

  /** Returns the ids of the payments that wait for an operator. */
  async unmatched() {
    const { status, body } = await this.#call('GET', '/v1/unmatched-payments');
    assert.equal(status, 200);
    return body.payments.map(({ payment_id }) => payment_id);
  }
}
