// Reads recorded requests, and converts each to a call of Stripe's own library in TypeScript.
import { routeOf } from './routes.js';

/** Converts one line of the record to a call in TypeScript. Throws an error if the line can't be converted. */
export function callOf(line, apiVersion) {
  const { method, path, query, form, version } = readRecord(line);
  if (version !== apiVersion) throw new Error(`the API version is ${version}; the types are of ${apiVersion}`);
  const route = routeOf(method, path);
  if (!route) throw new Error('the path is unknown; add it to routes.js with the method of Stripe\'s library');
  const [sent, unused] = method === 'POST' ? [form, query] : [query, form];
  if (unused.length > 0) throw new Error(`a ${method} sends parameters in the wrong place: ${unused[0][0]}`);
  // Stripe's type of a deletion has no properties, so TypeScript would accept any.
  if (method === 'DELETE' && sent.length > 0) throw new Error(`a deletion takes no parameter: ${sent[0][0]}`);
  const ids = route.ids.map(id => JSON.stringify(id));
  return { title: `${method} ${path}`, text: `stripe.${route.call}(${[...ids, literal(decode(sent))].join(', ')});` };
}

function readRecord(line) {
  const record = JSON.parse(line);
  const arePairs = pairs => Array.isArray(pairs) && pairs.every(pair => pair.length === 2 && pair.every(isText));
  const { method, path, query, form } = record;
  if (isText(method) && isText(path) && arePairs(query) && arePairs(form)) return record;
  throw new Error('the line is no recorded request');
}

const isText = value => typeof value === 'string';

/** Decodes names with brackets: `a[b]` is a map, `a[0]` and `a[]` are lists. */
export function decode(pairs) {
  const root = new Map();
  for (const [name, value] of pairs) {
    const parts = /^([^[\]]+)((?:\[[^[\]]*\])*)$/.exec(name);
    if (!parts) throw new Error(`a parameter's name can't be read: ${name}`);
    const path = [parts[1], ...[...parts[2].matchAll(/\[([^\]]*)\]/g)].map(([, part]) => part)];
    place(root, path, value, name);
  }
  return listed(root);
}

function place(node, [part, ...rest], value, name) {
  if (part === '' && rest.length > 0) throw new Error(`an object of a list needs its index: ${name}`);
  const key = part === '' ? String(node.size) : part;
  if (rest.length === 0) {
    if (node.has(key)) throw new Error(`a parameter is given twice: ${name}`);
    node.set(key, value);
    return;
  }
  if (!node.has(key)) node.set(key, new Map());
  if (isText(node.get(key))) throw new Error(`a parameter has a value and members: ${name}`);
  place(node.get(key), rest, value, name);
}

/** Converts every map whose keys are indices to a list. */
function listed(node) {
  if (isText(node)) return node;
  const entries = [...node].map(([key, value]) => [key, listed(value)]);
  if (entries.length === 0 || !entries.every(([key]) => /^\d+$/.test(key))) return new Map(entries);
  const misplaced = entries.findIndex(([key], index) => key !== String(index));
  if (misplaced >= 0) throw new Error(`a list's index ${entries[misplaced][0]} stands at ${misplaced}`);
  return entries.map(([, value]) => value);
}

function literal(node) {
  if (isText(node)) return `wire(${JSON.stringify(node)})`;
  if (Array.isArray(node)) return `[${node.map(literal).join(', ')}]`;
  return `{ ${[...node].map(([key, value]) => `${JSON.stringify(key)}: ${literal(value)}`).join(', ')} }`;
}
