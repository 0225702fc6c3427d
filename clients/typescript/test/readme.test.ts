// Runs the samples of the README, which are the files in `examples`, against a stack and models.js.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { AICredits } from '@ai-credits/client';
import { millionths } from './stack.ts';
import { MODELS } from './wrapper.ts';

const root = new URL('../', import.meta.url);
const { AI_CREDITS_LOCAL: baseUrl = '', AI_CREDITS_TOKEN: apiKey = '' } = process.env;
const env = {
  ...process.env,
  ...{ CREDITS_URL: baseUrl, CREDITS_KEY: apiKey, NODE_NO_WARNINGS: '1' },
  ...{ OPENAI_BASE_URL: `${MODELS}/v1`, OPENAI_API_KEY: 'key', ANTHROPIC_BASE_URL: MODELS, ANTHROPIC_API_KEY: 'key' },
};

// The output and the price of each sample. The model answers 10 tokens with 20 words, for 0.535 credits.
const ANSWER = /^word1 .* word20/;
const SAMPLES: Record<string, [RegExp, string]> = {
  'debit.ts': [/^It cost 2\.3 credits\.$/, '2.3'],
  'gate.ts': [ANSWER, '0.535'],
  'begin.ts': [/^It cost 0\.915 credits\.$/, '0.915'],
  'ai-sdk.ts': [ANSWER, '0.535'],
  'openai.ts': [ANSWER, '0.535'],
  'anthropic.ts': [ANSWER, '0.535'],
  'errors.ts': [/^This needs 450000\.5 AI credits .*\/settings\/ai-credits/, '0'],
  'outage.ts': [/^1 call was made later\.$/, '2.5'],
  'ledger.ts': [/-2\.5\n.*-2\.3\n/s, '0'],
};

test('the samples of the README are the examples', () => {
  const readme = readFileSync(new URL('README.md', root), 'utf8');
  const samples = Array.from(readme.matchAll(/```ts\n(.*?)```/gs), ([, sample]) => sample!);
  const files = readdirSync(new URL('examples/', root));
  const examples = files.map((file) => readFileSync(new URL(`examples/${file}`, root), 'utf8'));
  assert.deepEqual(samples.sort(), examples.sort());
  assert.deepEqual(files.sort(), Object.keys(SAMPLES).sort());
});

test('each sample runs, and costs its price', async (t) => {
  const credits = new AICredits({ baseUrl, apiKey });
  const workspace = credits.workspace('demo');
  await credits.putWorkspace('demo', { name: 'Demo', plan: 'free', billing_email: 'billing@demo.example' });
  const grant = { credits: '1000', kind: 'prepaid', reason: 'samples' };
  await credits.request('POST', '/v1/workspaces/demo/grants', { body: grant });
  for (const [file, [prints, costs]] of Object.entries(SAMPLES)) {
    await t.test(file, async () => {
      const before = await workspace.getBalance();
      const { stdout } = await promisify(execFile)(process.execPath, [`examples/${file}`], { cwd: root, env });
      assert.match(stdout.trimEnd(), prints);
      const { available, held } = await workspace.getBalance();
      assert.deepEqual([millionths(before.available) - millionths(available), held], [millionths(costs), '0']);
    });
  }
});
