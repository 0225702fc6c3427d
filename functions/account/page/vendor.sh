#!/usr/bin/env bash
# Rebuilds the page's libraries from their packages, at the versions below: preact.js and d3.js.
# CI runs it and finds no difference. Needs node and npm.
set -euo pipefail
page="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
printf '{ "private": true, "type": "module", "sideEffects": false }\n' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact \
    preact@11.2.0 htm@3.1.1 d3-shape@3.2.1 d3-array@3.2.5 esbuild@0.28.2
cat > preact.js <<'JS'
import htm from 'htm';
import { h } from 'preact';
export { render } from 'preact';
export { useCallback, useEffect, useRef, useState } from 'preact/hooks';
export const html = htm.bind(h);
JS
cat > d3.js <<'JS'
export { ticks } from 'd3-array';
export { area, line } from 'd3-shape';
JS
notice() { printf '/*! %s\n' "$1" && sed 's/^/ * /; s/ *$//' "$2" && printf ' */\n'; }
bundle() { npx esbuild "$1" --bundle --minify --format=esm --target=es2022 --legal-comments=none; }
{
    notice 'preact 11.2.0' node_modules/preact/LICENSE
    printf '/*! htm 3.1.1, Copyright 2018 Google Inc., Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0 */\n'
    bundle preact.js
} > "$page/preact.js"
{ notice 'd3-shape 3.2.1 and d3-array 3.2.5' node_modules/d3-shape/LICENSE && bundle d3.js; } > "$page/d3.js"
