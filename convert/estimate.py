"""What a conversion will need, told before it starts."""

import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path

from runtime.errors import ConversionError, DiskFull

from .checkpoint import Checkpoint
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
    model = temporary = 0
    for name in checkpoint.names:
        tensor = checkpoint.tensor(name)
        if len(tensor.shape) == 1:
            model += 4 * prod(tensor.shape)
            continue
        end = name in (EMBEDDING, HEAD)
        rows, columns = tensor.shape
        nbytes = recipe.nbytes(rows, columns, end=end, stored_bits=8 * tensor.data.itemsize)
        model += nbytes
        mode, _ = recipe.form(columns, end=end)
        if mode is not None:
            at_once = min(rows * columns, BLOCK) if mode.startswith("int8") else rows * columns
            temporary = max(temporary, _TEMPORARY * at_once + nbytes)
    compressing = model + temporary if recipe.linear else 0
    return Needs(model, model + _OTHER_FILES, max(compressing, int(_LOADED * model)) + _PROGRAM)


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
        "CPU": f"about {_gb(int(_LOADED * needs.model))} of memory, and the KV cache",
        "GPU": f"its driver, and about {_gb(2 * needs.model)} of memory while it loads",
        "NPU": "its driver" if recipe.name == "int4-npu" else "the recipe int4-npu",
    }


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"
