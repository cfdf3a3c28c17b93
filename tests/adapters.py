"""Small random LoRA adapters in PEFT's files, and their merge by numpy, for tests."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoints import Array, Tiny, write_safetensors


def write_adapter(folder: Path, tensors: Mapping[str, Array], **config: Any) -> Path:
    """Writes f32 tensors under PEFT's prefix, and adapter_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "bias": "none"} | config
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    stored = [(f"base_model.model.{name}", "F32", value.shape, value.tobytes()) for name, value in tensors.items()]
    write_safetensors(folder / "adapter_model.safetensors", stored)
    return folder


def random_adapter(
    weights: Mapping[str, Array], wanted: str = ".*_proj|.*dense.*|.*query_key_value", rank: int = 4, seed: int = 1
) -> dict[str, Array]:
    """Tensors for every matrix whose module's name matches; `weights` are a checkpoint's, under its own names."""
    random, found = np.random.default_rng(seed), {}
    for name, value in weights.items():
        module = name.removesuffix(".weight")
        if value.ndim == 2 and name.endswith(".weight") and re.fullmatch(wanted, module):
            rows, columns = value.shape
            shapes = {"lora_A": (rank, columns), "lora_B": (rows, rank)}
            if "embed" in module:
                shapes = {"lora_embedding_A": (rank, rows), "lora_embedding_B": (columns, rank)}
            for part, shape in shapes.items():
                suffix = "" if "embedding" in part else ".weight"
                scale = 0.3 if part.endswith("A") else 0.1
                found[f"{module}.{part}{suffix}"] = scale * random.standard_normal(shape).astype(np.float32)
    return found


def merged(
    weights: Mapping[str, Array], tensors: Mapping[str, Array], scale: Callable[[str], float] = lambda _: 2.0
) -> dict[str, Array]:
    """The weights with an adapter added to them in f32. `scale` maps a module's name to its factor."""
    found = {}
    for name, value in weights.items():
        module, new = name.removesuffix(".weight"), tensors.get(name, value)
        if (down := tensors.get(f"{module}.lora_A.weight")) is not None:
            new = new + np.float32(scale(module)) * (tensors[f"{module}.lora_B.weight"] @ down)
        if (down := tensors.get(f"{module}.lora_embedding_A")) is not None:
            new = new + np.float32(scale(module)) * (tensors[f"{module}.lora_embedding_B"] @ down).T
        if (lengths := tensors.get(f"{module}.lora_magnitude_vector")) is not None:
            new = new * (lengths / np.linalg.norm(new, axis=1))[:, None]
        found[name] = new
    return found


def to_bf16(value: Array) -> Array:
    """The nearest bf16, ties to even, in f32."""
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def write_weights(folder: Path, tiny: Tiny, weights: Mapping[str, Array]) -> None:
    """Replaces a tiny checkpoint's weights, in its own dtype."""
    tensors = [(name, *tiny.encode(i, value)) for i, (name, value) in enumerate(weights.items())]
    write_safetensors(folder / "model.safetensors", tensors)
