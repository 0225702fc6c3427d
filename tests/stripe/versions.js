// The API versions whose events are delivered, each with the release of Stripe's library that has its types.
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import { build, fileHere, temporaryFolder } from './compile.js';

export const VERSIONS = {
  '2020-08-27': 'stripe-8',
  '2022-11-15': 'stripe-12',
  '2024-06-20': 'stripe-16',
  '2025-03-31.basil': 'stripe-18',
  '2026-08-26.dahlia': 'stripe-22',
  '2026-10-28.endive': 'stripe',
};

/** Compiles a version's fixtures with its types. Returns the compiler's messages and the URL of the module. */
export function compiled(version) {
  const folder = temporaryFolder();
  const out = join(folder, 'out');
  const messages = build(folder, fileHere(`fixtures/${version}.ts`), VERSIONS[version], out);
  return { messages, module: pathToFileURL(join(out, 'fixtures', `${version}.js`)).href };
}
