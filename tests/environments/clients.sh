#!/usr/bin/env bash
# Client libraries for Python and Node, each in an environment of its own (0.7 GB), and the tests marked `clients`, run
# from the development environment against our server on the embedded checkpoint. Then `python -m tests.client_matrix
# FOLDER` prints the table of docs/clients.md.
#
#     tests/environments/clients.sh [FOLDER]
set -euo pipefail
folder=${1:-}
if [ -z "$folder" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder/node"
folder=$(realpath "$folder")
cd "$(dirname "$0")/../.."
if [ ! -x "$folder/python/bin/python" ]; then
    python3.11 -m venv "$folder/python"
    "$folder/python/bin/pip" install --quiet "uv>=0.9,<1"  # pip tries versions of these packages for an hour
    "$folder/python/bin/uv" pip install --quiet --python "$folder/python/bin/python" \
        openai langchain-openai openai-agents agent-framework-core agent-framework-openai "pydantic-ai-slim[openai]" \
        litellm instructor "smolagents[openai]" anthropic ollama "schemathesis>=4,<5"
fi
if [ ! -d "$folder/node/node_modules" ]; then
    npm install --silent --no-fund --no-audit --prefix "$folder/node" \
        openai ai @ai-sdk/openai @ai-sdk/openai-compatible @langchain/openai @langchain/core @anthropic-ai/sdk ollama zod
fi
EDGE_TEST_CLIENTS=$folder python -m pytest -m clients -s tests/test_clients.py
