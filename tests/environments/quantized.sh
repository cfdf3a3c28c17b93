#!/usr/bin/env bash
# The libraries of quantised checkpoints in an environment of their own, and the tests marked `quantized` in it.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-$(mktemp -d)/quantized}
python3.11 -m venv "$venv"
. "$venv/bin/activate"
pip install --quiet "torch==2.13.0"  # the CPU build where one is at hand; a range may bring CUDA's
pip install --quiet -e ".[convert,gguf]" "pytest>=8.4,<10" "pytest-timeout>=2.4,<3" hypothesis
pip install --quiet accelerate "compressed-tensors>=0.20,<0.21" "bitsandbytes>=0.50,<0.51"
pip install --quiet --no-deps gptqmodel  # it asks for a newer torch than it uses here
pip install --quiet pypcre tokenicer logbar device-smi defuser datasets kernels pillow requests
python -m pytest -m quantized tests/test_quantized_libraries.py
