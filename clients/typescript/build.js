// Compiles `src` to ES modules and to CommonJS modules in `dist`, and copies the licence that the package contains.
import { execFileSync } from 'node:child_process';
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';

const CJS = ['--module', 'commonjs', '--moduleResolution', 'bundler', '--verbatimModuleSyntax', 'false'];

rmSync('dist', { recursive: true, force: true });
for (const [folder, type, options] of [
  ['dist/esm', 'module', []],
  ['dist/cjs', 'commonjs', CJS],
]) {
  const tsc = ['node_modules/typescript-7/bin/tsc', '--project', '.', '--outDir', folder, ...options];
  execFileSync(process.execPath, tsc, { stdio: 'inherit' });
  writeFileSync(`${folder}/package.json`, `{ "type": "${type}" }\n`);
}
copyFileSync('../../LICENSE', 'LICENSE');
