#!/usr/bin/env bash
# PEFT's merge of LoRA adapters against ours: the tests marked `peft`, in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-$(mktemp -d)/peft}
[ -x "$venv/bin/python" ] || python3.11 -m venv "$venv"
. "$venv/bin/activate"
pip install --quiet -e ".[convert,gguf,torch,test]" "peft>=0.17,<0.22"
python -m pytest -m peft -s tests/test_peft.py
