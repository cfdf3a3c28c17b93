#!/usr/bin/env bash
# optimum-intel in an environment of its own (1.9 GB), and the tests marked `optimum` in it.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-$(mktemp -d)/optimum}
python3.11 -m venv "$venv"
. "$venv/bin/activate"
pip install --quiet "torch==2.13.0"  # the CPU build where one is at hand; a range may bring CUDA's
pip install --quiet ".[optimum]" "pytest>=8.4,<10" "pytest-timeout>=2.4,<3"
pip uninstall --quiet --yes torchvision  # optimum-intel asks for it and does not use it here; it belongs to another torch
rm -rf build
python -m pytest --noconftest -m optimum tests/test_optimum.py
