// Compiles TypeScript against the types of one version of Stripe's library.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const modules = join(here, 'node_modules');

/** Returns a folder for generated files, removed when the process ends. */
export function temporaryFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'ai-credits-stripe-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Returns a file of this folder. */
export const fileHere = name => join(here, name);

function typesOf(alias) {
  // Up to version 18 the types are in one folder. Later each module has its declarations beside it.
  const places = ['types/2020-08-27/index.d.ts', 'types/index.d.ts', 'esm/stripe.esm.node.d.ts'];
  const found = places.map(place => join(modules, alias, place)).find(existsSync);
  if (!found) throw new Error(`${alias} is not installed: npm ci --prefix tests/stripe --ignore-scripts`);
  return found;
}

/** Returns the API version that the library installed as `alias` describes. */
export function apiVersionOf(alias) {
  const declared = join(modules, alias, 'cjs/apiVersion.js');
  // Version 8 has the API version as the name of a folder.
  if (!existsSync(declared)) return readdirSync(join(modules, alias, 'types')).find(name => /^\d{4}-/.test(name));
  return /ApiVersion = '([^']+)'/.exec(readFileSync(declared, 'utf8'))[1];
}

/** Checks a file against the library installed as `alias`. Returns the compiler's messages; none means success. */
export const check = (folder, file, alias) => compile(folder, file, alias, { noEmit: true });

/** Compiles a file of this folder and its imports to JavaScript in `out`. Returns the compiler's messages. */
export const build = (folder, file, alias, out) =>
  compile(folder, file, alias, { rootDir: here, outDir: out, noEmitOnError: true });

function compile(folder, file, alias, output) {
  const compilerOptions = {
    strict: true, target: 'es2022', module: 'es2022', moduleResolution: 'bundler', lib: ['es2022'],
    types: ['node'], typeRoots: [join(modules, '@types')], skipLibCheck: true,
    paths: { stripe: [typesOf(alias)], wire: [join(here, 'wire.ts')] }, ...output,
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }));
  const tsc = join(modules, 'typescript/bin/tsc');
  const words = [tsc, '--project', folder, '--pretty', 'false'];
  const run = spawnSync(process.execPath, words, { encoding: 'utf8', maxBuffer: 256 << 20 });
  if (run.status !== 0 && !run.stdout) throw new Error(`tsc did not run: ${run.error ?? run.stderr}`);
  // The continuation lines of a message are indented.
  return run.stdout.split(/\n(?! )/).filter(Boolean);
}
