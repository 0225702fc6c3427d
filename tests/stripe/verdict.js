// Checks recorded requests against the types of Stripe's own library.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { apiVersionOf, check, fileHere, temporaryFolder } from './compile.js';
import { callOf } from './requests.js';

const { version: libraryVersion } = JSON.parse(readFileSync(fileHere('node_modules/stripe/package.json'), 'utf8'));

/** The API version that the library's types describe. */
export const API_VERSION = apiVersionOf('stripe');

/** The name and version of the library that judges. */
export const JUDGE = `stripe ${libraryVersion} (${API_VERSION})`;

const HEADER = "import Stripe from 'stripe';\nimport { wire } from 'wire';\ndeclare const stripe: Stripe;\n";
const HEADER_LINES = HEADER.split('\n').length - 1;

/** Judges a record with one request per line. Returns the number of requests, and the faults with their lines. */
export function judge(record) {
  const lines = record.split('\n').map((text, index) => ({ text, number: index + 1 })).filter(({ text }) => text.trim());
  if (lines.length === 0) return { requests: 0, calls: 0, faults: [{ line: 0, message: 'no request was recorded' }] };
  const faults = [];
  const calls = new Map();
  for (const { text, number } of lines) {
    try {
      const call = callOf(text, API_VERSION);
      if (!calls.has(call.text)) calls.set(call.text, { ...call, line: number });
    } catch (error) {
      faults.push({ line: number, message: `${error.message}: ${text}` });
    }
  }
  faults.push(...typeFaults([...calls.values()]));
  return { requests: lines.length, calls: calls.size, faults: faults.sort((one, other) => one.line - other.line) };
}

/** Compiles the calls, one per line, and maps the compiler's messages to the lines of the record. */
function typeFaults(calls) {
  const folder = temporaryFolder();
  const file = join(folder, 'requests.ts');
  writeFileSync(file, HEADER + calls.map(({ text }) => `${text}\n`).join(''));
  return check(folder, file, 'stripe').map(message => {
    const place = /requests\.ts\((\d+),\d+\): error (.*)$/s.exec(message);
    const call = place && calls[Number(place[1]) - HEADER_LINES - 1];
    if (!call) return { line: 0, message };
    return { line: call.line, message: `${call.title}: ${place[2]}: ${call.text}` };
  });
}
