"""What a conversion will need, told before it starts."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from runtime.architecture import Architecture
from runtime.checkpoint import Checkpoint
from runtime.errors import ConversionError, DiskFull

from .compress import BLOCK, EMBEDDING, HEAD
from .recipe import Recipe

# Measured.
_OTHER_FILES = 64 * 2**20  # on the disk: tokenizers, the graph
_PROGRAM = 500 * 2**20  # in memory: Python, OpenVINO, NNCF
_TEMPORARY = 11  # bytes that NNCF takes for each weight it is given
_LOADED = 1.15  # the loaded model, its weights repacked, by the size of its file


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes. `model` is the IR's size; `disk` and `memory` are what the whole conversion takes at its peak."""

    model: int
    disk: int
    memory: int


def estimate(checkpoint: Checkpoint, recipe: Recipe) -> Needs:
    stored_bits = {name: 8 * checkpoint.tensor(name).data.itemsize for name in checkpoint.names}
    model = model_bytes(checkpoint.architecture, recipe, stored_bits)
    temporary = 0
    for name, shape in checkpoint.architecture.shapes():
        mode = recipe.form(shape[-1], end=name in (EMBEDDING, HEAD))[0] if len(shape) == 2 else None
        if mode is not None:
            at_once = min(prod(shape), BLOCK) if mode.startswith("int8") else prod(shape)
            temporary = max(temporary, _TEMPORARY * at_once + _weight_bytes(name, shape, recipe))
    compressing = model + temporary if recipe.linear else 0
    return Needs(model, model + _OTHER_FILES, max(compressing, loaded_bytes(model)) + _PROGRAM)


def model_bytes(architecture: Architecture, recipe: Recipe, stored_bits: Mapping[str, int] | None = None) -> int:
    """Bytes of the IR's weights. `stored_bits` has a weight in the checkpoint, by tensor; 16 where none is given."""
    bits = stored_bits or {}
    return sum(_weight_bytes(name, shape, recipe, bits.get(name, 16)) for name, shape in architecture.shapes())


def loaded_bytes(model: int) -> int:
    """Bytes of memory that a model of so many takes on a CPU, without its KV cache."""
    return int(_LOADED * model)


def _weight_bytes(name: str, shape: tuple[int, ...], recipe: Recipe, stored_bits: int = 16) -> int:
    if len(shape) == 1:  # norms and biases are kept in f32
        return 4 * shape[0]
    return recipe.nbytes(*shape, end=name in (EMBEDDING, HEAD), stored_bits=stored_bits)


def refuse_too_little(needs: Needs, parent: Path) -> None:
    """Raises DiskFull or ConversionError where what is free will not do."""
    import psutil  # type: ignore[import-untyped]

    free = shutil.disk_usage(parent).free
    if free < needs.disk:
        raise DiskFull(
            f"the model needs about {_gb(needs.disk)} in {str(parent)!r}, but {_gb(free)} is free",
            hint="make room, or choose a folder on another disk",
        )
    memory = psutil.virtual_memory().available + psutil.swap_memory().free
    if memory < needs.memory:
        raise ConversionError(
            f"the conversion needs about {_gb(needs.memory)} of memory, but {_gb(memory)} is free",
            hint="close other programs, or convert on a larger machine and copy the folder",
        )


def devices(recipe: Recipe, needs: Needs) -> dict[str, str]:
    """What each device needs to run the model, in words."""
    return {
        "CPU": f"about {_gb(loaded_bytes(needs.model))} of memory, and the KV cache",
        "GPU": f"its driver, and about {_gb(2 * needs.model)} of memory while it loads",
        "NPU": "its driver" if recipe.name == "int4-npu" else "the recipe int4-npu",
    }


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"
