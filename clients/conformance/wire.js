// Plays the conformance cases to a client, and judges what it did. README.md has the format.
import { createServer } from 'node:http';
import { text as readText } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { connected, listen, run, splitArguments, stop } from './beside.js';
import { forDriver, readCases } from './cases.js';
import { play, retryTime } from './faults.js';
import { judge } from './judge.js';

/** The requests of one case until its verdict. */
class Session {
  arrivals = [];
  #retryTime = 0;

  constructor(expected, base, earlierKeys = new Set()) {
    this.expected = expected;
    this.base = base;
    this.earlierKeys = earlierKeys;
  }

  /** Returns the keys of this session and the earlier ones. The last key may not have arrived yet. */
  keys({ outages = [] }) {
    const arrived = this.arrivals.map(({ headers }) => headers['idempotency-key']);
    return new Set([...this.earlierKeys, ...arrived, ...outages.map((outage) => outage.idempotency_key)]);
  }

  /** Returns whether a request is of an earlier session: the client gave it up at its deadline before it arrived. */
  #isLate({ headers }) {
    return this.expected.requests.at(-1).times === 'any' && this.earlierKeys.has(headers['idempotency-key']);
  }

  async handle(request, response) {
    const { wire, slug } = this.expected;
    if (this.#isLate(request)) return request.socket.destroy();
    const step = wire[Math.min(this.arrivals.length, wire.length - 1)];
    const arrival = { method: request.method, path: request.url.slice(slug.length + 1), headers: request.headers };
    arrival.early = Math.max(0, this.#retryTime - Date.now());
    this.arrivals.push(arrival);
    if (step.lose === 'request') return request.socket.destroy();
    arrival.body = await readText(request);
    this.#retryTime = retryTime(step, this.base, Date.now());
    arrival.hung = await play(step, response, this.base);
  }
}

/** Starts the server. `problems()` returns what must make the run fail once the driver has ended. */
export async function startWire(cases = readCases()) {
  const [sessions, verdicts, failures] = [new Map(), new Map(), []];
  const server = createServer((request, response) => {
    route(request, response).catch((error) => {
      if (response.destroyed) return; // The client gave up.
      failures.push(`${request.method} ${request.url}: ${error.stack}`);
      request.socket.destroy();
    });
  });
  server.keepAliveTimeout = 0; // An idle connection that the server closes would look like a fault of the wire.
  const url = await listen(server);
  const bySlug = new Map(cases.map((it) => [it.slug, it]));
  const open = (slug, keys) => sessions.set(slug, new Session(bySlug.get(slug), `${url}/${slug}`, keys));
  for (const slug of bySlug.keys()) open(slug);

  async function route(request, response) {
    await connected(response);
    const [, first, second] = request.url.split(/[/?]/);
    const reply = (status, value) => {
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
    };
    if (first === '_cases') return reply(200, cases.map((it) => forDriver(it, url)));
    if (first === '_verdict' && bySlug.has(second)) return reply(200, await acceptVerdict(second, request));
    if (sessions.has(first)) return sessions.get(first).handle(request, response);
    failures.push(`${request.method} ${request.url} is the request of no case`);
    return reply(404, { message: 'Not Found' });
  }

  async function acceptVerdict(slug, request) {
    const verdict = JSON.parse(await readText(request));
    const session = sessions.get(slug);
    open(slug, session.keys(verdict));
    const problems = judge(session.expected, session.arrivals, verdict);
    verdicts.set(slug, [...(verdicts.get(slug) ?? []), ...problems]);
    return { passed: problems.length === 0, problems };
  }

  function problems() {
    if (cases.length && verdicts.size === 0) return [...failures, 'the driver posted no verdict'];
    const ofCase = ({ name, slug }) => {
      if (!verdicts.has(slug)) return [`${name}: the driver posted no verdict`];
      const late = sessions.get(slug).arrivals.length;
      const of = [...verdicts.get(slug), ...(late ? [`${late} requests arrived after the verdict`] : [])];
      return of.map((problem) => `${name}: ${problem}`);
    };
    return [...failures, ...cases.flatMap(ofCase)];
  }

  return { url, problems, close: () => stop(server) };
}

async function main() {
  const { command } = splitArguments(process.argv.slice(2), 'node wire.js -- COMMAND…');
  const cases = readCases();
  const wire = await startWire(cases);
  const status = await run(command, { AI_CREDITS_WIRE: wire.url });
  const problems = wire.problems();
  await wire.close();
  for (const problem of problems) console.error(problem);
  console.error(`${cases.length} cases, ${problems.length} problems`);
  process.exitCode = status || (problems.length ? 1 : 0);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
