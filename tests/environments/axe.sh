#!/usr/bin/env bash
# axe-core from npm, and the tests marked `axe`: the page in Chromium has no violation of its rules. The tests' own
# environment is the one that is active.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=${1:-$(mktemp -d)}
npm install --silent --no-fund --no-audit --prefix "$place" axe-core@4
AXE_CORE="$place/node_modules/axe-core/axe.min.js" python -m pytest -m axe tests/test_page_axe.py
