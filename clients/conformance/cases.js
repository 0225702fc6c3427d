// Reads the cases and puts the named values in their places.
import { readFileSync } from 'node:fs';

const EXPECTED = ['returns', 'raises', 'fields', 'message', 'replayed', 'entered'];

const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));

/** Returns all cases of `cases.json`, without references. */
export function readCases() {
  const { client, values, steps, requests, cases } = read('cases.json');
  const openapi = read('../../infra/openapi.json');

  const withValues = (value) => {
    if (Array.isArray(value)) return value.map(withValues);
    if (typeof value === 'string' && value.startsWith('@')) return withValues(named(values, value.slice(1)));
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withValues(inner)]));
  };
  const step = (it) => {
    if (typeof it === 'string') return step(named(steps, it));
    if (it.half) return { half: step(it.half) };
    if (it.slow) return { slow: step(it.slow) };
    if (it.problem) return withProblem(it, openapi);
    return it.example ? { status: it.status, json: example(it, openapi) } : withValues(it);
  };
  const request = ({ like, ...own }) => withValues(like ? { ...named(requests, like), ...own } : own);
  return cases.map((it) => ({
    ...withValues(it),
    slug: slug(it.name),
    client: { ...client, ...it.client },
    wire: it.wire.map(step),
    requests: it.requests.map(request),
    outages: withValues(it.outages ?? []),
  }));
}

/** Returns what a driver needs of a case: without what is expected of the client. */
export function forDriver({ name, slug, base_path = '', client, calls }, url) {
  const inputs = (call) => Object.fromEntries(Object.entries(call).filter(([key]) => !EXPECTED.includes(key)));
  const [base_url, verdict_url] = [`${url}/${slug}${base_path}`, `${url}/_verdict/${slug}`];
  return { name, slug, base_url, verdict_url, client, calls: calls.map(inputs) };
}

function named(values, name) {
  if (Object.hasOwn(values, name)) return values[name];
  throw new Error(`cases.json has nothing named "${name}"`);
}

function withProblem({ problem, headers }, openapi) {
  const { value } = named(openapi.components.examples, problem);
  return { status: value.status, headers: { 'Content-Type': 'application/problem+json', ...headers }, json: value };
}

function example({ example, status }, openapi) {
  const [method, path] = example.split(' ');
  const response = openapi.paths[path]?.[method.toLowerCase()]?.responses[status];
  const value = response?.content['application/json'].example;
  if (value === undefined) throw new Error(`the OpenAPI has no example of a ${status} of ${example}`);
  return value;
}

function slug(name) {
  return name.toLowerCase().replace(/[^a-z0-9]+/g, '-');
}
