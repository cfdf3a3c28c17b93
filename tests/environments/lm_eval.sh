#!/usr/bin/env bash
# lm-evaluation-harness in an environment of its own (1.1 GB), and the test marked `lm_eval`, run from the development
# environment against it. EDGE_TEST_LM_EVAL names its Python.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-$(mktemp -d)/lm_eval}
python3.11 -m venv "$venv"
"$venv/bin/pip" install --quiet "lm_eval[api]==0.4.13" "transformers>=5,<6"
EDGE_TEST_LM_EVAL="$venv/bin/python" python -m pytest -m lm_eval tests/test_lm_eval.py
