// Proxies a real stack, and loses 10 % of the requests and 10 % of the responses.
import { createServer, request as send } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { connected, listen, run, splitArguments, stop } from './beside.js';

const USAGE = 'node lossy.js TARGET_URL [--seed N] -- COMMAND…';
const LOSS = 0.1;
const MAX_SEED = 2 ** 32;
/** Headers of one connection, which a proxy does not forward. The body is forwarded whole. */
const OF_CONNECTION = ['connection', 'keep-alive', 'transfer-encoding', 'content-length', 'host'];

/** Returns a generator of numbers from 0 to 1 (mulberry32). The same seed gives the same numbers. */
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / MAX_SEED;
  };
}

/** Starts the proxy. `counts` has the numbers of requests, and of what was lost; `failures`, errors of the target. */
export async function startLossy(target, seed) {
  const draw = generator(seed);
  const counts = { requests: 0, lostRequests: 0, lostResponses: 0 };
  const failures = [];

  async function handle(request, response) {
    await connected(response);
    counts.requests += 1;
    const drawn = draw();
    if (drawn < LOSS) {
      counts.lostRequests += 1;
      return request.socket.destroy();
    }
    const forwarded = await forward(target, request, await buffer(request));
    if (drawn < 2 * LOSS) {
      counts.lostResponses += 1;
      return request.socket.destroy();
    }
    return response.writeHead(forwarded.status, forwarded.headers).end(forwarded.body);
  }

  const server = createServer((request, response) => {
    handle(request, response).catch((error) => {
      if (!request.complete) return; // The client gave up before it had sent the request.
      failures.push(`${request.method} ${request.url}: ${error.message}`);
      request.socket.destroy();
    });
  });
  server.keepAliveTimeout = 0; // Only what is counted may be lost.
  return { url: await listen(server), counts, failures, close: () => stop(server) };
}

/** Sends a request to the target over a connection of its own, and returns the whole response. */
async function forward(target, { method, url, headers }, body) {
  const response = await new Promise((resolve, reject) => {
    const options = { method, headers: { ...endToEnd(headers), 'content-length': body.length }, agent: false };
    send(`${target.replace(/\/$/, '')}${url}`, options, resolve).on('error', reject).end(body);
  });
  const whole = await buffer(response);
  return { status: response.statusCode, headers: { ...endToEnd(response.headers), 'content-length': whole.length }, body: whole };
}

function endToEnd(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !OF_CONNECTION.includes(name)));
}

/** Returns why a run proves nothing. */
function problems({ counts, failures }) {
  const nothingLost = counts.lostRequests === 0 || counts.lostResponses === 0;
  return [...failures, ...(nothingLost ? ['too few requests: none was lost, or no response was'] : [])];
}

async function main() {
  const { options, command } = splitArguments(process.argv.slice(2), USAGE);
  const { values, positionals } = parseArgs({ args: options, options: { seed: { type: 'string' } }, allowPositionals: true });
  const seed = values.seed === undefined ? Math.floor(Math.random() * MAX_SEED) : Number(values.seed);
  if (positionals.length !== 1 || !Number.isInteger(seed)) throw new Error(`Usage: ${USAGE}`);
  console.error(`lossy: seed ${seed}`);
  const proxy = await startLossy(positionals[0], seed);
  const status = await run(command, { AI_CREDITS_LOSSY: proxy.url });
  await proxy.close();
  const { requests, lostRequests, lostResponses } = proxy.counts;
  console.error(`lossy: of ${requests} requests, ${lostRequests} were lost, and the responses of ${lostResponses}`);
  for (const problem of problems(proxy)) console.error(`lossy: ${problem}`);
  process.exitCode = status || (problems(proxy).length ? 1 : 0);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
