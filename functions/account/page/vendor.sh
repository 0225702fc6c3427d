#!/usr/bin/env bash
# Rebuilds preact.js, which has preact and htm, from their packages at the versions below.
# CI runs it and finds no difference. Needs node and npm.
set -euo pipefail
page="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
printf '{ "private": true, "type": "module", "sideEffects": false }\n' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact \
    preact@11.2.0 htm@3.1.1 esbuild@0.28.2
cat > preact.js <<'JS'
import htm from 'htm';
import { h } from 'preact';
export { render } from 'preact';
export { useCallback, useEffect, useId, useRef, useState } from 'preact/hooks';
export const html = htm.bind(h);
JS
notice() { printf '/*! %s\n' "$1" && sed 's/^/ * /; s/ *$//' "$2" && printf ' */\n'; }
bundle() { npx esbuild "$1" --bundle --minify --format=esm --target=es2022 --legal-comments=none; }
{
    notice 'preact 11.2.0' node_modules/preact/LICENSE
    printf '/*! htm 3.1.1, Copyright 2018 Google Inc., Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0 */\n'
    bundle preact.js
} > "$page/preact.js"
