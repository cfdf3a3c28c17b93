#!/usr/bin/env bash
# IPEX 2.8 in an environment of its own (torch 2.8, transformers 4.51; about 7 GB), and the tests marked `ipex` in it.
# The converter's packages do not go together with these.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-$(mktemp -d)/ipex}
python3.11 -m venv "$venv"
. "$venv/bin/activate"
pip install --quiet ".[ipex]" "pytest>=8.4,<10" "pytest-timeout>=2.4,<3"
rm -rf build
python -m pytest --noconftest -m ipex tests/test_ipex.py
