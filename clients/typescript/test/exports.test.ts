// The package has the same exports as ES modules and as CommonJS, and its classes work as both.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

const EXPORTS = {
  '@ai-credits/client': ['AICredits', 'AICreditsError', 'InsufficientCredits', 'NotGated', 'Refused', 'Unavailable'],
  '@ai-credits/client/ai-sdk': ['creditsMiddleware', 'embeddingCreditsMiddleware', 'languageModelUnits'],
  '@ai-credits/client/anthropic': ['messageUnits', 'withCredits'],
  '@ai-credits/client/openai': ['chatCompletionUnits', 'embeddingUnits', 'responseUnits', 'withCredits'],
};
const require = createRequire(import.meta.url);
const namesOf = (exported: object) => Object.keys(exported).filter((name) => name !== 'default' && name !== '__esModule');

for (const [path, names] of Object.entries(EXPORTS)) {
  test(`${path} as ES module and as CommonJS`, async () => {
    const [esm, cjs] = [await import(path), require(path)];
    assert.deepEqual(namesOf(esm).sort(), names);
    assert.deepEqual(namesOf(cjs).sort(), names);
    assert.notEqual(esm[names[0]!], cjs[names[0]!]);
  });
}
