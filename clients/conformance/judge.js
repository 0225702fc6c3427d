// Compares what a client did with what its case expects.
import { isDeepStrictEqual } from 'node:util';

const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;

/** Timers may fire this much too early, in milliseconds. */
const TIMER_TOLERANCE = 5;

const show = (value) => JSON.stringify(value) ?? 'nothing';

/** Returns the problems of a case: of the requests that arrived, and of the verdict that the driver posted. */
export function judge(expected, arrivals, { calls = [], outages = [] }) {
  const keys = new GeneratedKeys();
  const problems = [...requestProblems(expected, arrivals, keys)];
  if (calls.length !== expected.calls.length) {
    problems.push(`the verdict has ${calls.length} calls in place of ${expected.calls.length}`);
  }
  expected.calls.forEach((call, at) => {
    problems.push(...outcomeProblems(call, calls[at] ?? {}, keys).map((problem) => `call ${at + 1}: ${problem}`));
  });
  return [...problems, ...differences(expected.outages, outages, 'outages', keys)];
}

/** The idempotency keys that the client made, by their numbers in the case. */
class GeneratedKeys {
  #keys = new Map();

  problem({ generated, suffix = '' }, actual) {
    if (typeof actual !== 'string' || !actual.endsWith(suffix)) return `${show(actual)} does not end with ${show(suffix)}`;
    const key = actual.slice(0, actual.length - suffix.length);
    const known = this.#keys.get(generated);
    if (known !== undefined) return known === key ? undefined : `the key is ${show(key)}, and was ${show(known)} before`;
    if (!UUID_V4.test(key)) return `the key ${show(key)} is not a UUID of version 4`;
    if ([...this.#keys.values()].includes(key)) return `the key ${show(key)} was used for another call`;
    this.#keys.set(generated, key);
    return undefined;
  }
}

function requestProblems({ requests, client }, arrivals, keys) {
  const certain = requests.reduce((sum, { times = 1 }) => (times === 'any' ? sum : sum + times), 0);
  const expected = requests.flatMap(({ times = 1, ...request }) => {
    const count = times === 'any' ? Math.max(0, arrivals.length - certain) : times;
    return Array(count).fill({ api_key: client.api_keys[0], ...request });
  });
  const problems = expected.slice(0, arrivals.length).flatMap((request, at) =>
    arrivalProblems(request, arrivals[at], keys).map((problem) => `request ${at + 1}: ${problem}`),
  );
  if (arrivals.length === expected.length) return problems;
  const seen = arrivals.map(({ method, path }) => `${method} ${path}`).join(', ');
  return [...problems, `${arrivals.length} requests arrived in place of ${expected.length}: ${seen}`];
}

function arrivalProblems(expected, { method, path, headers, body, early, hung }, keys) {
  const problems = [];
  const check = (passed, problem) => passed || problems.push(problem);
  check(method === expected.method, `the method is ${method} in place of ${expected.method}`);
  check(isDeepStrictEqual(parsePath(path), parsePath(expected.path)), `the path is ${path} in place of ${expected.path}`);
  const authorization = headers.authorization;
  check(authorization === `Bearer ${expected.api_key}`, `Authorization is ${show(authorization)}`);
  check(headers.accept?.includes('application/json'), `Accept is ${show(headers.accept)}`);
  check(!early || early <= TIMER_TOLERANCE, `it arrived ${early} ms before the end of Retry-After`);
  check(!hung, hung);
  if (body !== undefined) problems.push(...bodyProblems(expected.body, body, headers));
  if (expected.key !== undefined) problems.push(...keyProblems(expected.key, headers['idempotency-key'], keys));
  return problems;
}

function bodyProblems(expected, text, headers) {
  if (text === '') return expected === undefined ? [] : ['it has no body'];
  if (!/^application\/json\b/.test(headers['content-type'])) return [`Content-Type is ${show(headers['content-type'])}`];
  const same = isDeepStrictEqual(parseJson(text), expected ?? {});
  return same ? [] : [`the body is ${text} in place of ${show(expected ?? {})}`];
}

function keyProblems(expected, actual, keys) {
  if (expected !== null && typeof expected === 'object') return [keys.problem(expected, actual)].filter(Boolean);
  return actual === (expected ?? undefined) ? [] : [`Idempotency-Key is ${show(actual)} in place of ${show(expected)}`];
}

function outcomeProblems(call, outcome, keys) {
  if (call.raises !== outcome.raises) {
    return [`it ${ending(outcome)} in place of ${call.raises ? `raising ${call.raises}` : 'returning'}`];
  }
  const compared = call.raises ? ['fields', 'message', 'entered'] : ['returns', 'replayed', 'entered'];
  return compared.filter((name) => name in call).flatMap((name) => differences(call[name], outcome[name], name, keys));
}

function ending(outcome) {
  if (outcome.raises) return `raised ${outcome.raises}, ${show(outcome.message)},`;
  return 'returns' in outcome ? `returned ${show(outcome.returns)}` : 'has no outcome';
}

/** Returns where `expected` is not part of `actual`. */
function differences(expected, actual, where, keys) {
  const wrong = [`${where} is ${show(actual)} in place of ${show(expected)}`];
  if (expected === null) return actual === null || actual === undefined ? [] : wrong;
  if (typeof expected !== 'object') return actual === expected ? [] : wrong;
  if ('generated' in expected) return [keys.problem(expected, actual)].filter(Boolean).map((problem) => `${where}: ${problem}`);
  if ('at_least' in expected) return actual >= expected.at_least ? [] : wrong;
  if ('contains' in expected) return typeof actual === 'string' && actual.includes(expected.contains) ? [] : wrong;
  if (actual === null || typeof actual !== 'object' || Array.isArray(actual) !== Array.isArray(expected)) return wrong;
  if (Array.isArray(expected) && actual.length !== expected.length) return wrong;
  return Object.entries(expected).flatMap(([name, value]) => differences(value, actual[name], `${where}.${name}`, keys));
}

/** Splits a path before it decodes the segments, so that an escaped slash is not a separator. */
function parsePath(path) {
  const [, segments, query] = /^([^?]*)\??(.*)$/s.exec(path);
  const decode = (segment) => {
    try {
      return decodeURIComponent(segment);
    } catch {
      return { malformed: segment };
    }
  };
  return { segments: segments.split('/').map(decode), query: [...new URLSearchParams(query)].map(String).sort() };
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
