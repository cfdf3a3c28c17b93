#!/usr/bin/env bash
# Coding agents against our server, as docs/agents.md sets them up: Claude Code, Codex CLI, opencode and Continue CLI from
# npm, aider from PyPI, each in a folder of this run; then the tests marked `agents`, in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-$(mktemp -d)/agents}
mkdir -p "$folder"
npm install --silent --no-fund --no-audit --prefix "$folder" @anthropic-ai/claude-code@2 @openai/codex@0 opencode-ai@1 @continuedev/cli@1
[ -x "$folder/aider/bin/python" ] || python3.11 -m venv "$folder/aider"
"$folder/aider/bin/pip" install --quiet "aider-chat>=0.86,<0.87"
[ -x "$folder/edge/bin/python" ] || python3.11 -m venv "$folder/edge"
. "$folder/edge/bin/activate"
pip install --quiet -e ".[convert,serve,remote,test]"
PATH=$PATH:$folder/node_modules/.bin:$folder/aider/bin python -m pytest -m agents tests/test_agents.py
