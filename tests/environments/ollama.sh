#!/usr/bin/env bash
# Ollama's clients for Python and Node, LangChain's and LlamaIndex's, against our server: the tests marked `ollama`, in
# an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-$(mktemp -d)/ollama}
[ -x "$venv/bin/python" ] || python3.11 -m venv "$venv"
. "$venv/bin/activate"
pip install --quiet -e ".[convert,serve,remote,test]" "ollama>=0.6,<0.7" "langchain-ollama>=1,<2" "llama-index-llms-ollama>=0.11,<0.12"
npm install --silent --prefix "$venv" "ollama@^0.6"
NODE_PATH="$venv/node_modules" python -m pytest -m ollama tests/test_ollama_clients.py
