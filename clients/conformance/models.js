// Speaks the APIs of OpenAI (chat completions, responses, embeddings) and Anthropic (messages) on this machine.
//
// The text of the last user message says what a request gets: a JSON object with the fields below, or any other text for
// the defaults. The counts are exclusive, as our units are; each API reports them in its own, overlapping way.
//
//   id             A name of the call, for `GET /_requests?id=…`. Attempts are counted by text: a new id starts a new count.
//   input          Input tokens that were neither cached nor written to a cache nor audio; by default 10.
//   cached, cache_write, audio_input    Further input tokens; by default 0. Only chat completions report audio.
//   output         Tokens of text; by default 20. Each is a word of its own: "word1 word2 …".
//   text           The text itself, such as JSON for a structured answer. It is streamed by words, and costs `output`.
//   reasoning, audio_output             Further output tokens; by default 0.
//   functions      Calls of the request's first function, once: none after the request ends with a function's result.
//   server_tools   Calls of tools that the provider runs: {"web_search": 2}. Responses also: file_search, code_interpreter.
//                  Messages also: web_fetch. Chat completions have none.
//   finish         The finish reason, in the words of the API. For responses: the reason of an incomplete response.
//   usage          false: no usage. A stream of messages then ends before `message_delta`. A plain message always has usage.
//   fail           {"status": 429, "times": 2}: the first attempts fail, with `retry-after-ms: 1`. Without `times`, all do.
//   break_after    Closes the connection after so many deltas; 0: before any event. A plain answer breaks in the middle.
//   stall_after    Sends nothing more after so many deltas, until the client closes the connection. Plain: never answers.
//   error_after    Sends the API's error event after so many deltas, and ends the stream.
//
// The request's maximum of tokens cuts reasoning and output, and the finish reason says so.
//
// `GET /_requests` returns {count, requests: [{path, stream, body, attempt, status, closed}]}, with `?id=…` those of one id.
// It waits until none of them is open. `closed` tells whether the client closed the connection before the end of the response.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { connected, listen, run, splitArguments, stop } from './beside.js';
import { messages } from './models/anthropic.js';
import { chat, embeddings } from './models/openai-chat.js';
import { responses } from './models/openai-responses.js';
import { answerOf, readPlan } from './models/plan.js';
import { sendEvents, sendJson } from './models/stream.js';

const APIS = new Map([chat, embeddings, responses, messages].map((api) => [`POST ${api.path}`, api]));

/** Starts the server. */
export async function startModels() {
  const records = [];
  const server = createServer((request, response) => {
    route(request, response).catch((error) => {
      if (response.destroyed) return; // The client closed the connection.
      console.error(error);
      response.destroy();
    });
  });
  server.keepAliveTimeout = 0;

  async function route(request, response) {
    await connected(response);
    const { pathname, searchParams } = new URL(request.url, 'http://models');
    if (pathname === '/_requests') return list(searchParams.get('id'), response);
    const api = APIS.get(`${request.method} ${pathname}`);
    if (!api) return sendJson(response, 404, chat.failure(404, `There is no ${request.method} ${pathname}.`));
    return handle(api, await json(request), response);
  }

  async function handle(api, body, response) {
    const missing = api.required.filter((field) => body[field] === undefined);
    if (missing.length) return sendJson(response, 400, api.failure(400, `${missing.join(', ')}: Field required`));
    const asked = api.read(body);
    const record = open(api, body, asked.text, response);
    const plan = planFor(api, asked.text);
    if (plan.problem) return sendJson(response, 400, api.failure(400, plan.problem));
    const { fail } = plan;
    if (fail && record.attempt <= (fail.times ?? Infinity)) {
      const headers = { 'retry-after-ms': '1' };
      return sendJson(response, fail.status, api.failure(fail.status, 'The model failed.'), { headers });
    }
    const call = { id: `answer_${records.length}`, created: Math.floor(Date.now() / 1000), body, answer: answerOf(plan, asked) };
    if (!body.stream) return sendJson(response, 200, api.plain(call), { plan });
    return sendEvents(response, api.events(call), plan, { failure: api.streamFailure, end: api.end });
  }

  function open({ path }, body, text, response) {
    const attempt = 1 + records.filter((earlier) => earlier.path === path && earlier.text === text).length;
    const record = { path, text, stream: Boolean(body.stream), body, attempt };
    record.ended = once(response, 'close').then(() => {
      record.status = response.statusCode;
      record.closed = !response.writableFinished && !response.cutByServer;
    });
    records.push(record);
    return record;
  }

  async function list(id, response) {
    const wanted = records.filter(({ text }) => id === null || readId(text) === id);
    await Promise.all(wanted.map(({ ended }) => ended));
    const requests = wanted.map(({ text, ended, ...shown }) => shown);
    return sendJson(response, 200, { count: requests.length, requests });
  }

  return { url: await listen(server), close: () => stop(server) };
}

function planFor(api, text) {
  try {
    const plan = readPlan(text);
    const unknown = Object.keys(plan.server_tools).filter((tool) => !api.serverTools.includes(tool));
    return unknown.length ? { problem: `${api.path} has no server tool ${unknown.join(', ')}` } : plan;
  } catch (error) {
    return { problem: error.message };
  }
}

function readId(text) {
  try {
    return readPlan(text).id;
  } catch {
    return undefined;
  }
}

async function main() {
  const { command } = splitArguments(process.argv.slice(2), 'node models.js -- COMMAND…');
  const models = await startModels();
  process.exitCode = await run(command, { AI_CREDITS_MODELS: models.url });
  await models.close();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
