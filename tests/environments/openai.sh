#!/usr/bin/env bash
# LangChain's ChatOpenAI, OpenAI's agents and schemathesis against our server, in an environment of their own, and the
# tests marked `clients` in it. The `openai` client itself is tested everywhere (tests/test_openai.py).
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-$(mktemp -d)/clients}
python3.11 -m venv "$venv"
. "$venv/bin/activate"
pip install --quiet ".[convert,serve,remote]" "pytest>=8.4,<10" "pytest-timeout>=2.4,<3" "openai>=3,<4" "langchain-openai>=1,<2" "openai-agents>=0.24,<0.25" "schemathesis>=4,<5"
rm -rf build
python -m pytest -m clients tests/test_clients.py
