"""The `quantization_config` of config.json: how the hub's quantised checkpoints describe their weights.

Only what the tensors do not show is read: the method, and how GPTQ stores zero points. Bits, groups and the matrices
that are not quantised are those of the tensors themselves. What is not supported is rejected by its name.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from ...errors import CheckpointError
from ...text import one_line

Method = Literal["gptq", "awq", "compressed-tensors", "fp8", "bitsandbytes"]

QUANTIZATION_KEYS = ("quantization_config", "compression_config")  # of config.json; the second is an older name
_ORIGINAL = "convert the original bf16 checkpoint"
_FP8 = ("fp8", "fbgemm_fp8")
_PACKED_FORMATS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "dense", "mixed-precision")
SUPPORTED = "GPTQ, AWQ, compressed-tensors (int4, int8, FP8), FP8 and bitsandbytes"


@dataclass(frozen=True, slots=True)
class Quantization:
    """A supported quantisation. `zero_offset` is added to GPTQ's stored zero points: 1 in its first format, else 0.

    `group_size` and `block_size` are those that the config states, where the shapes of the tensors leave them open.
    """

    method: Method
    zero_offset: int = 0
    group_size: int | None = None
    block_size: tuple[int, int] | None = None


def read_quantization(config: Mapping[str, Any]) -> Quantization | None:
    """Return the quantisation of a checkpoint with this config.json, None if its weights are not quantised.

    Raises CheckpointError for a method or format that is not supported.
    """
    found = next((config[key] for key in QUANTIZATION_KEYS if config.get(key) is not None), None)
    if found is None:
        return None
    if not isinstance(found, dict):
        raise CheckpointError(
            f"config.json: quantization_config is {reprlib.repr(found)}, not an object", hint=_ORIGINAL
        )
    method = _method(found)
    group = found.get("group_size", found.get("q_group_size"))
    return Quantization(
        method,
        zero_offset=1 if method == "gptq" and found.get("checkpoint_format", "gptq") != "gptq_v2" else 0,
        group_size=group if type(group) is int and group > 0 else None,
        block_size=_block_size(found),
    )


def _method(found: Mapping[str, Any]) -> Method:
    """Return the method after checking its variant. Raises CheckpointError."""
    name = found.get("quant_method")
    if name is None and (found.get("load_in_4bit") or found.get("load_in_8bit")):
        name = "bitsandbytes"
    if name == "auto-round":  # packs as GPTQ or AWQ do
        packing = str(found.get("packing_format"))
        name = "gptq" if "gptq" in packing else "awq" if "awq" in packing else f"auto-round, packed as {packing}"
    if name in ("gptq", "awq") and found.get("bits", found.get("w_bit", 4)) not in (4, 8):
        raise _unsupported(f"{name.upper()} in {reprlib.repr(found.get('bits', found.get('w_bit')))} bits")
    if name == "gptq":
        form = found.get("checkpoint_format") or "gptq"
        if form not in ("gptq", "gptq_v2") or found.get("is_marlin_format"):
            raise _unsupported(f"GPTQ in the format {'marlin' if form in ('gptq', 'gptq_v2') else form}")
        return "gptq"
    if name == "awq":
        version = str(found.get("version") or found.get("checkpoint_format") or "gemm").lower()
        if version != "gemm":
            raise _unsupported(f"AWQ in the layout {version}", "convert one in AWQ's GEMM layout, or the original")
        return "awq"
    if name in ("compressed-tensors", "sparseml"):
        _require_dense(found)
        return "compressed-tensors"
    if name in _FP8 or (name == "modelopt" and found.get("quant_algo") == "FP8"):
        return "fp8"
    if name == "bitsandbytes":
        return "bitsandbytes"
    algorithm = found.get("quant_algo")
    raise _unsupported(str(name) if algorithm is None else f"{name} {algorithm}")


def _require_dense(found: Mapping[str, Any]) -> None:
    """Raise CheckpointError for sparse weights and for formats of compressed-tensors that are not supported."""
    sparsity = found.get("sparsity_config")
    if isinstance(sparsity, dict) and sparsity.get("format", "dense") != "dense":
        raise _unsupported(f"compressed-tensors with sparse weights ({sparsity['format']})")
    groups = found.get("config_groups")
    groups = list(groups.values()) if isinstance(groups, dict) else []
    for form in (found.get("format"), *(group.get("format") for group in groups if isinstance(group, dict))):
        if form is not None and form not in _PACKED_FORMATS:
            raise _unsupported(f"compressed-tensors in the format {form}")


def _block_size(found: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return rows and columns of a block of FP8 with a common scale, if the config states them."""
    groups = found.get("config_groups")
    weights = [group.get("weights") for group in groups.values()] if isinstance(groups, dict) else []
    stated = [entry.get("block_structure") for entry in weights if isinstance(entry, dict)]
    for size in (found.get("weight_block_size"), *stated):
        if isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size):
            return cast(tuple[int, int], tuple(size))
    return None


def _unsupported(what: str, hint: str = _ORIGINAL) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint is quantised by {one_line(what, 120)}, which is not supported",
        hint=f"{hint}; supported: {SUPPORTED}",
    )
