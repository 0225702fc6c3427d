// Judges the requests that the test suite recorded: node tests/stripe/judge.js FILE
import { readFileSync } from 'node:fs';
import { JUDGE, judge } from './verdict.js';

/** The largest number of faults to print: a client's wrong parameter occurs in thousands of requests. */
const MAX_SHOWN = 20;

const file = process.argv[2];
let record;
try {
  record = readFileSync(file, 'utf8');
} catch (error) {
  console.error(`the recorded requests can't be read; give the file of AI_CREDITS_STRIPE_REQUESTS: ${error.message}`);
  process.exit(1);
}
const { requests, calls, faults } = judge(record);
for (const { line, message } of faults.slice(0, MAX_SHOWN)) console.error(`${file}:${line}: ${message}`);
console.log(`${requests} requests, ${calls} different ones, ${faults.length} faults, by the types of ${JUDGE}`);
process.exitCode = faults.length > 0 ? 1 : 0;
