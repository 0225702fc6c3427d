// The expected effect of each event, for every API version. events.test.js checks each row.
//
// `after` lists the events delivered before, to a new workspace with one open top-up of 1,000 credits for 1,000 cents.
// `available` is the balance after the event; if absent, only the response is checked. `sale` changes members of the
// sale.

const PAID = 'checkout.session.completed, paid';
const BANK_DEBIT = 'checkout.session.completed, bank debit';

export const EXPECTATIONS = [
  { event: PAID, available: '1000' },
  { event: PAID, after: [PAID], available: '1000' },
  { event: PAID, after: ['payment_intent.succeeded'], available: '1000' },
  { event: BANK_DEBIT, available: '0' },
  { event: 'checkout.session.completed, setup', available: '0' },
  { event: 'checkout.session.completed, free' },
  { event: 'checkout.session.async_payment_succeeded', after: [BANK_DEBIT], available: '1000' },
  { event: 'checkout.session.async_payment_failed', after: [BANK_DEBIT], available: '0' },
  { event: 'checkout.session.expired', available: '0' },

  { event: 'payment_intent.succeeded', available: '1000' },
  { event: 'payment_intent.succeeded', after: [PAID], available: '1000' },
  { event: 'payment_intent.payment_failed', available: '0' },
  { event: 'payment_intent.processing', available: '0' },
  { event: 'payment_intent.requires_action', available: '0' },
  { event: 'setup_intent.succeeded', available: '0' },

  { event: 'charge.succeeded', available: '0' },
  { event: 'charge.succeeded', after: [PAID], available: '1000' },
  { event: 'charge.refunded', after: [PAID], available: '0' },
  { event: 'charge.refunded', after: [PAID], sale: { refunded: 250 }, available: '750' },
  { event: 'charge.refunded', after: [PAID, 'charge.refunded'], available: '0' },

  { event: 'refund.created', after: [PAID] },
  { event: 'refund.created', after: [PAID, 'charge.refunded'], available: '0' },
  { event: 'refund.updated', after: [PAID, 'charge.refunded'], available: '0' },
  { event: 'refund.failed', after: [PAID, 'charge.refunded'] },
  { event: 'charge.refund.updated', after: [PAID, 'charge.refunded'] },

  { event: 'charge.dispute.created', after: [PAID], available: '0' },
  { event: 'charge.dispute.created, inquiry', after: [PAID], available: '1000' },
  { event: 'charge.dispute.updated', after: [PAID, 'charge.dispute.created'], available: '0' },
  { event: 'charge.dispute.closed, won', after: [PAID, 'charge.dispute.created'], available: '1000' },
  { event: 'charge.dispute.closed, lost', after: [PAID, 'charge.dispute.created'], available: '0' },
  { event: 'charge.dispute.funds_withdrawn', after: [PAID, 'charge.dispute.created'], available: '0' },
  { event: 'charge.dispute.funds_reinstated', after: [PAID, 'charge.dispute.created'] },
  { event: 'charge.dispute.funds_reinstated', after: [PAID, 'charge.dispute.closed, won'], available: '1000' },
];

/** Changes that make a paid session another application's. The product acknowledges the event and does nothing. */
export const OF_OTHERS = {
  'of another account': event => ({ ...event, account: 'acct_x' }),
  'of livemode true': event => ({ ...event, livemode: true }),
  'without our metadata': event => ({
    ...event, data: { object: { ...event.data.object, metadata: {}, client_reference_id: null } },
  }),
};
