// The requests that the client may send to Stripe, each with the method of Stripe's own library that sends it.
// judge.test.js calls every method and compares the path that the library requests.

const ROUTES = [
  ['POST', '/v1/checkout/sessions', 'checkout.sessions.create'],
  ['GET', '/v1/checkout/sessions', 'checkout.sessions.list'],
  ['GET', '/v1/checkout/sessions/{id}', 'checkout.sessions.retrieve'],
  ['POST', '/v1/checkout/sessions/{id}/expire', 'checkout.sessions.expire'],
  ['POST', '/v1/payment_intents', 'paymentIntents.create'],
  ['GET', '/v1/payment_intents', 'paymentIntents.list'],
  ['GET', '/v1/payment_intents/{id}', 'paymentIntents.retrieve'],
  ['POST', '/v1/payment_intents/{id}/cancel', 'paymentIntents.cancel'],
  ['GET', '/v1/customers/{id}', 'customers.retrieve'],
  ['DELETE', '/v1/customers/{id}', 'customers.del'],
  ['GET', '/v1/customers/{id}/payment_methods', 'customers.listPaymentMethods'],
  ['GET', '/v1/customers/{id}/payment_methods/{id}', 'customers.retrievePaymentMethod'],
  ['GET', '/v1/payment_methods/{id}', 'paymentMethods.retrieve'],
  ['POST', '/v1/payment_methods/{id}/detach', 'paymentMethods.detach'],
  ['POST', '/v1/refunds', 'refunds.create'],
  ['GET', '/v1/refunds', 'refunds.list'],
  ['GET', '/v1/refunds/{id}', 'refunds.retrieve'],
].map(([method, path, call]) => ({ method, path, call, pattern: new RegExp(`^${path.replaceAll('{id}', '([^/]+)')}$`) }));

/** Returns the names of all methods in the table. */
export const methods = () => ROUTES.map(({ call }) => call);

/** Returns the library's method for a request, and the ids in its path; undefined for an unknown path. */
export function routeOf(method, path) {
  for (const route of ROUTES) {
    const ids = route.method === method && route.pattern.exec(path);
    if (ids) return { call: route.call, ids: ids.slice(1).map(decodeURIComponent) };
  }
  return undefined;
}
