"""GGUF files of GLM-4 checkpoints, laid out as llama.cpp's converter does: conversion/base.py, glm.py, chatglm.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType, RopeScalingType
from gguf.quants import quantize

from runtime.checkpoint.tensor_names import gguf_fused_names
from runtime.checkpoint.tensor_names import gguf_names as named
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.checkpoint.tokenizer import read_tokenizer

Array = np.ndarray[Any, Any]
Kind = str | Callable[[str], str]  # ggml's type of a matrix, perhaps by its name


def write_gguf(checkpoint: Path, path: Path, kind: Kind = "F32", *, parts: int = 0, **overrides: Any) -> Path:
    """The checkpoint in a folder as a GGUF file whose matrices have this type; norms and biases are in f32.

    `overrides` replace metadata, dots spelled as __; None leaves one out.
    """
    with CheckpointTensors.open(checkpoint) as opened:
        a = opened.architecture
        name = "glm4" if a.sandwich_norms else "chatglm"
        fused = a.name == "ChatGLMModel"
        writer = gguf.GGUFWriter(path, name, split_max_tensors=parts)
        meta: dict[str, Any] = {
            "general.name": checkpoint.name,
            "general.license": "mit",
            f"{name}.context_length": a.context,
            f"{name}.embedding_length": a.hidden,
            f"{name}.block_count": a.layers,
            f"{name}.feed_forward_length": a.ffn,
            f"{name}.attention.head_count": a.heads,
            f"{name}.attention.head_count_kv": a.kv_heads,
            f"{name}.attention.key_length": a.head_dim,
            f"{name}.attention.value_length": a.head_dim,
            f"{name}.attention.layer_norm_rms_epsilon": np.float32(a.norm_eps),
            f"{name}.rope.dimension_count": a.rotary_dim,
            f"{name}.rope.freq_base": np.float32(a.rope_theta),
        }
        if a.rope_factor != 1:
            meta |= {
                f"{name}.rope.scaling.type": RopeScalingType.LINEAR.value,
                f"{name}.rope.scaling.factor": np.float32(a.rope_factor),
            }
        if a.yarn:
            meta |= {
                f"{name}.context_length": opened.config["max_position_embeddings"],
                f"{name}.rope.scaling.type": RopeScalingType.YARN.value,
                f"{name}.rope.scaling.factor": np.float32(a.yarn.factor),
                f"{name}.rope.scaling.original_context_length": a.yarn.original_context,
            }
        meta |= _tokenizer(checkpoint, a.vocab) | {key.replace("__", "."): value for key, value in overrides.items()}
        for key, value in meta.items():
            _add(writer, key, value)
        tensors: dict[str, list[Array]] = {}
        for canonical, shape in a.shapes():
            place = (gguf_fused_names if fused else named)(a, canonical, shape)
            tensors.setdefault(place.name, []).append(opened.tensor(canonical).f32())
        for stored, blocks in tensors.items():
            values = np.concatenate(blocks)
            type = "F32" if values.ndim == 1 else kind if isinstance(kind, str) else kind(stored)
            quantised = GGMLQuantizationType[type]
            writer.add_tensor(stored, encode(values, type), raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def encode(values: Array, kind: str) -> Array:
    """The values in ggml's type. The package does not make K-quants: those are random blocks with small scales."""
    if kind in _RANDOM:
        return _random_blocks(values, kind)
    return quantize(values, GGMLQuantizationType[kind])


# A block's weights and bytes, and where its f16 scales are (MXFP4 has an exponent in its first byte).
_RANDOM = {
    "Q4_K": (256, 144, slice(0, 4)),
    "Q6_K": (256, 210, slice(208, 210)),
    "IQ4_NL": (32, 18, slice(0, 2)),
    "IQ4_XS": (256, 136, slice(0, 2)),
    "IQ3_S": (256, 110, slice(0, 2)),
    "IQ2_XXS": (256, 66, slice(0, 2)),
    "MXFP4": (32, 17, slice(0, 0)),
}


def _random_blocks(values: Array, kind: str) -> Array:
    rows, columns = values.shape
    random = np.random.default_rng(columns)
    weights, size, at = _RANDOM[kind]
    blocks = random.integers(0, 256, (rows * columns // weights, size), np.uint8)
    scale = np.float16(values.std() / (2048 if kind == "Q6_K" else 256))
    if kind == "MXFP4":
        blocks[:, 0] = 120
    blocks[:, at] = np.full((at.stop - at.start) // 2, scale).view(np.uint8)
    return blocks.reshape(rows, -1)


def _tokenizer(checkpoint: Path, vocabulary: int) -> dict[str, Any]:
    """What the converter's get_vocab_base and SpecialVocab find."""
    if not any((checkpoint / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return {}
    source = read_tokenizer(checkpoint, vocabulary)
    names = {id: token for token, id in source.tokenizer.get_vocab().items()}
    special = set(source.special_tokens.values())
    template = checkpoint / "chat_template.jinja"
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "glm4",
        "tokenizer.ggml.tokens": [names.get(id, f"[PAD{id}]") for id in range(vocabulary)],
        "tokenizer.ggml.token_type": [3 if id in special else 1 if id in names else 5 for id in range(vocabulary)],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in json.loads(source.tokenizer.to_str())["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": source.special_tokens[source.eos_token],
        "tokenizer.ggml.padding_token_id": source.special_tokens[source.pad_token],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": template.read_text(encoding="utf-8") if template.is_file() else None,
    }


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if value is None or key == "general.architecture":  # which the writer adds itself
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_float32(key, value)
