#!/usr/bin/env bash
# Anthropic's own clients, Python's from PyPI and Node's from npm, against our server: the tests marked `anthropic`, in an
# environment of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-$(mktemp -d)/anthropic}
mkdir -p "$folder"
npm install --silent --no-fund --no-audit --prefix "$folder" "@anthropic-ai/sdk@^1.14"
[ -x "$folder/venv/bin/python" ] || python3.11 -m venv "$folder/venv"
. "$folder/venv/bin/activate"
pip install --quiet -e ".[convert,serve,remote,test]" "anthropic>=2.14,<3"
NODE_PATH=$folder/node_modules python -m pytest -m anthropic tests/test_anthropic_clients.py
