"""`adopt` of an embedding or reranking model: the same checks as of a chat model, as far as such a model has them.

How an embedding model pools is written in sentence-transformers' files, which optimum-cli does not always copy: without
them it would be a guess, so the folder is rejected.

Sources: sentence-transformers' modules.json, 1_Pooling/config.json, sentence_bert_config.json and
config_sentence_transformers.json.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import CheckpointError, ConversionError, VerificationError
from runtime.folder.integrity import record_verified
from runtime.folder.ir import IR_FILE
from runtime.folder.manifest import CheckpointRecord, EmbeddingSettings, FileRecord, Manifest, ModelSizes, Pooling, Task
from runtime.folder.model_folder import ModelFolder, file_sha256, write_manifest
from runtime.progress import Progress
from runtime.retrieval.embedding_model import SENTENCE, TOKENS, EmbeddingModel
from runtime.retrieval.encoder_graph import read_config
from runtime.retrieval.rerank_model import RerankModel
from runtime.version import VERSION

from .check.ir_weights import is_constant, read_ir
from .job import Steps
from .output.linked_copy import link_export
from .output.scratch import ScratchFolder

ADOPTED = "adopted"  # in the manifest, instead of a recipe
_TOKENIZER = "openvino_tokenizer.xml"
_COPIED = ("*.json", "openvino_*.xml", "openvino_*.bin", "*.txt", "*.model", "README.md", "LICENSE*")
_POOLING: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_QUERY = "ships"
_TEXTS = ("The ships lie in the harbour.", "7 × 6 = 42")


def encoder_task(folder: Path) -> Task:
    """Return what the exported model of a folder does, by the outputs of its graph: "chat" for any that is neither an
    embedding nor a reranking model."""
    path = folder / IR_FILE
    if not path.is_file() or not path.with_suffix(".bin").is_file():
        return "chat"
    try:
        outputs = {name: port for port in read_ir(path).outputs for name in port.names}
    except RuntimeError:
        return "chat"
    if not outputs.keys().isdisjoint((SENTENCE, *TOKENS)):
        return "embedding"
    logits = outputs.get("logits")
    return "rerank" if logits is not None and len(logits.get_partial_shape()) == 2 else "chat"


def adopt_encoder(folder: Path, scratch: ScratchFolder | None, task: Task) -> Steps:
    """Check the folder of an embedding or reranking model, and make it a model folder, step by step. Raises
    CheckpointError for its configuration, ConversionError or VerificationError."""
    yield Progress("check", "graph and config.json")
    if not (folder / _TOKENIZER).is_file():
        raise ConversionError(
            f"{folder} has no {_TOKENIZER}", hint="export it again with optimum-cli and openvino-tokenizers installed"
        )
    config = read_config(folder)
    graph = read_ir(folder / IR_FILE)
    pools = any(SENTENCE in port.names for port in graph.outputs)
    embedding = _embedding_settings(folder, config, pools=pools) if task == "embedding" else None
    constants = [node for node in graph.get_ops() if is_constant(node)]
    sizes = ModelSizes(
        weights=sum(node.get_byte_size() for node in constants),
        largest=max((node.get_byte_size() for node in constants), default=0),
    )
    weights = (folder / IR_FILE).with_suffix(".bin")
    record = FileRecord(weights.stat().st_size, file_sha256(weights))
    fingerprint = sha256(f"{file_sha256(folder / IR_FILE)} {record.sha256}".encode()).hexdigest()
    names = config.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else str(config.get("model_type", ""))
    manifest = Manifest(
        family="base",
        recipe=ADOPTED,
        source=CheckpointRecord(folder.resolve().name, architecture, fingerprint),
        context_length=_max_tokens(folder, config),
        kv_bytes_per_token=0,
        special_tokens={},
        versions={"glm4-edge": VERSION},
        sizes=sizes,
        paged=False,
        task=task,
        embedding=embedding,
    )
    yield Progress("check", done=1, total=1)
    if scratch is not None:
        link_export(folder, _COPIED, scratch.path)
    opened = ModelFolder(folder if scratch is None else scratch.path, manifest)
    yield Progress("verify", "two texts", 0, 1)
    if task == "embedding":
        dimensions = _verify_embedding(opened)
        manifest = replace(manifest, sizes=replace(sizes, hidden=dimensions), verification={"dimensions": dimensions})
    else:
        _verify_scores(opened)
    yield Progress("verify", done=1, total=1)
    yield Progress("seal", "hashes")
    yield from seal(folder, scratch, manifest, {weights.name: record})


def seal(folder: Path, scratch: ScratchFolder | None, manifest: Manifest, known: Mapping[str, FileRecord]) -> Steps:
    """Write the manifest, and publish a linked copy."""
    sealed = write_manifest(scratch.path if scratch else folder, manifest, known)
    if scratch:
        yield Progress("seal", "to disk")
        scratch.publish()
    result = ModelFolder(scratch.target if scratch else folder, sealed.manifest)
    record_verified(result)
    yield Progress("seal", done=1, total=1, result=result)


def _verify_embedding(folder: ModelFolder) -> int:
    """Return the dimensions of a vector. Raises VerificationError unless two texts have two vectors, of numbers."""
    model = EmbeddingModel(folder)
    vectors = model.embed([model.encode(text) for text in _TEXTS])
    if not np.isfinite(vectors).all():
        raise VerificationError(f"the vectors of {folder.path} are NaN: its weights are damaged", hint=_AGAIN)
    if np.allclose(vectors[0], vectors[1], atol=1e-6):
        raise VerificationError(f"all texts have the same vector in {folder.path}", hint=_AGAIN)
    return int(vectors.shape[-1])


def _verify_scores(folder: ModelFolder) -> None:
    """Raise VerificationError unless the scores of two documents are from 0 to 1."""
    model = RerankModel(folder)
    if not all(0 <= score <= 1 for score in model.score([model.encode(_QUERY, text) for text in _TEXTS])):
        raise VerificationError(f"the scores of {folder.path} are NaN: its weights are damaged", hint=_AGAIN)


_AGAIN = "export the checkpoint again"


def _embedding_settings(folder: Path, config: Mapping[str, Any], *, pools: bool) -> EmbeddingSettings:
    """Return how the model pools, normalizes and begins a text; a graph that `pools` does the first two itself. Raises
    CheckpointError if the folder does not say how it pools."""
    modules = _read_json(folder / "modules.json")
    kinds = {str(module.get("type", "")).rpartition(".")[2] for module in modules if isinstance(module, dict)}
    found = _read_json(folder / "1_Pooling" / "config.json")
    pooled: list[Pooling] = [name for key, name in _POOLING.items() if isinstance(found, dict) and found.get(key)]
    if isinstance(found, dict) and found.get("pooling_mode") in _POOLING.values():
        pooled = [found["pooling_mode"]]
    if pools:
        pooled = ["graph"]
    if len(pooled) != 1:
        raise CheckpointError(
            f"{folder} does not say how the vectors of its tokens become one",
            hint="copy the checkpoint's modules.json and 1_Pooling/config.json into it (cls, mean or last token)",
        )
    further = _read_json(folder / "config_sentence_transformers.json")
    prompts, name = (
        (further.get("prompts"), further.get("default_prompt_name")) if isinstance(further, dict) else ({}, "")
    )
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    return EmbeddingSettings(
        pooled[0],
        normalize=not pools and ("Normalize" in kinds or not kinds),
        prompt=prompt if isinstance(prompt, str) else "",
        matryoshka=bool(config.get("is_matryoshka") or config.get("matryoshka_dimensions")),
    )


def _max_tokens(folder: Path, config: Mapping[str, Any]) -> int:
    """Return the tokens that the model reads: the least of what its files say. Raises CheckpointError if none does."""
    found = [_read_json(folder / name) for name in ("sentence_bert_config.json", "tokenizer_config.json")]
    limits = [
        limit
        for data, key in zip(found, ("max_seq_length", "model_max_length"), strict=True)
        if isinstance(data, dict) and isinstance(limit := data.get(key), int)
    ]
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int):
        pad = config.get("pad_token_id")
        offset = pad + 1 if "roberta" in str(config.get("model_type")) and isinstance(pad, int) else 0
        limits.append(positions - offset)  # RoBERTa's positions begin after its padding token
    limits = [limit for limit in limits if 2 < limit < 2**24]  # transformers writes 1e30 for none
    if not limits:
        raise CheckpointError(
            f"{folder} does not say how many tokens the model reads",
            hint="set max_position_embeddings in config.json",
        )
    return min(limits)


def _read_json(path: Path) -> Any:
    """Return the content of a JSON file, [] if there is none. Raises CheckpointError."""
    if not path.is_file():
        return []
    try:
        return json.loads(path.read_bytes()[: 1 << 24])
    except ValueError as exc:
        raise CheckpointError(f"{path} is damaged: {exc}", hint="copy the checkpoint's file again") from exc
