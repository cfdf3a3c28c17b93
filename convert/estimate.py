"""What a conversion will need, told before it starts."""

import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.device.memory import CONTEXT, estimate_from_sizes, gigabytes
from runtime.errors import ConversionError, DiskFull
from runtime.folder.model_folder import Sizes

from .check.layerwise import fits_whole
from .recipe import Recipe
from .weights import gguf_blocks as stored
from .weights import nncf as quantise
from .weights.compress import BLOCK, EMBEDDING, HEAD, WITH_DATA
from .weights.sensitivity import presumed

# Measured.
_OTHER_FILES = 64 * 2**20  # on the disk: tokenizers, the graph
PROGRAM = 500 * 2**20  # in memory: Python, OpenVINO, NNCF
_VERIFIED = 1024  # tokens of a prompt with which the result is checked
_TEMPORARY = 11  # bytes that NNCF takes for each weight it is given
_LAYER = 6  # bytes that the uncompressed layer takes for each of its weights while the checkpoint is asked
_AWQ = 24  # bytes that it takes for each weight of a layer's down_proj
_GPTQ = (34, 32)  # bytes that it takes for each pair of columns, and for each weight it is given
_DECODED = (4, 2)  # bytes that each of the two takes more where the weights of a GGUF are decoded for it
_PIECE = 2  # times the largest piece of the converted model, while that is asked
CALIBRATION = 10_000  # tokens of the calibration texts, where they are not known


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes. `sizes` are the IR's; `disk` and `memory` are what the whole conversion takes at its peak."""

    sizes: Sizes
    disk: int
    memory: int

    @property
    def told(self) -> str:
        return f"needs about {gigabytes(self.memory)} of memory and {gigabytes(self.disk)} on the disk"


def estimate(
    checkpoint: CheckpointTensors, recipe: Recipe, sensitive: Collection[str] | None = None, tokens: int = CALIBRATION
) -> Needs:
    """`sensitive` are the matrices that a mixed recipe leaves in 8 bits; before they are known, as many as can be.
    `tokens` are those of the calibration texts."""
    a = checkpoint.architecture
    stored_bits = {name: checkpoint.tensor(name).bits for name in checkpoint.names}
    sizes = model_sizes(a, recipe, stored_bits, sensitive, _taken_over(checkpoint, recipe))
    memory = conversion_memory(a, recipe, sizes, tokens, quantised=bool(checkpoint.quantised))
    return Needs(sizes, sizes.weights + _OTHER_FILES, memory)


def conversion_memory(
    architecture: Architecture, recipe: Recipe, sizes: Sizes, tokens: int = CALIBRATION, *, quantised: bool = False
) -> int:
    """Bytes of memory that a conversion takes at its peak; `quantised` is a GGUF, whose weights are decoded."""
    steps = [*_steps(architecture, recipe, sizes, *(_DECODED if quantised else (0, 0)))]
    if recipe.calibrated:
        steps.append(_calibration(architecture, recipe, tokens))
    return PROGRAM + max(steps)


def _calibration(a: Architecture, recipe: Recipe, tokens: int) -> int:
    """Bytes of memory that the texts take, and what is done with them beside."""
    states = 2 * 4 * tokens * a.hidden
    layer = _LAYER * sum(prod(shape) for _, shape in a.layer_shapes(0))
    if recipe.gptq:  # keeps the inputs of all matrices, and works on squares as wide as the widest
        states += 2 * 4 * tokens * (3 * a.hidden + a.ffn)
        hessian, weight = _GPTQ
        return states + max(layer, hessian * a.ffn**2 + weight * min(BLOCK, a.hidden * a.ffn))
    awq = _AWQ * a.hidden * a.ffn if recipe.awq else 0
    return states + max(layer, awq, _TEMPORARY * min(BLOCK, WITH_DATA * a.hidden * a.ffn))


def _steps(
    architecture: Architecture, recipe: Recipe, sizes: Sizes, temporary: int = 0, layer: int = 0
) -> Iterator[int]:
    """Bytes of memory that each step takes. None grows with the number of layers, unless the model is small."""
    if recipe.linear:
        yield (_TEMPORARY + temporary) * min(quantise.BLOCK, max(prod(shape) for _, shape in architecture.shapes()))
    yield (_LAYER + layer) * sum(prod(shape) for _, shape in architecture.layer_shapes(0))
    if fits_whole(sizes.weights):
        yield loaded_bytes(architecture, sizes, _VERIFIED)
    else:
        yield _PIECE * sizes.largest


def _taken_over(checkpoint: CheckpointTensors, recipe: Recipe) -> dict[str, int]:
    tensors = map(checkpoint.tensor, checkpoint.names) if recipe.take_over else ()
    return {tensor.name: stored.nbytes(tensor) for tensor in tensors if stored.agrees(tensor)}


def model_sizes(
    architecture: Architecture,
    recipe: Recipe,
    stored_bits: Mapping[str, int] | None = None,
    sensitive: Collection[str] | None = None,
    taken_over: Mapping[str, int] = {},
) -> Sizes:
    """The IR's sizes. `stored_bits` has a weight in the checkpoint, by tensor; 16 where none is given. `taken_over` are
    bytes of tensors that do not become the recipe's."""
    bits = stored_bits or {}
    eight = presumed(architecture, recipe) if sensitive is None else sensitive
    nbytes, groups = {}, 0
    for name, shape in architecture.shapes():
        if len(shape) == 1:  # norms and biases are kept in f32
            nbytes[name] = 4 * shape[0]
            continue
        rows, columns = shape
        kind = {"end": name in (EMBEDDING, HEAD), "sensitive": name in eight}
        nbytes[name] = recipe.nbytes(rows, columns, **kind, stored_bits=bits.get(name, 16))
        _, group = recipe.form(columns, **kind)
        if name in taken_over:
            nbytes[name], group = taken_over[name], stored.GROUP
        if group != -1:
            groups += rows * columns // group
    return Sizes(
        weights=sum(nbytes.values()),
        gathered=0 if architecture.tied_embeddings else nbytes[EMBEDDING],
        largest=max(nbytes.values()),
        groups=groups,
        layers=architecture.layers,
        hidden=architecture.hidden,
        ffn=architecture.ffn,
        vocab=architecture.vocab,
        kv_heads=architecture.kv_heads,
    )


def loaded_bytes(architecture: Architecture, sizes: Sizes, context: int = CONTEXT) -> int:
    """Bytes of memory that the model takes on a CPU with so many tokens in its KV cache, or as many as it can have."""
    return estimate_from_sizes(
        sizes, "CPU", min(context, architecture.context), architecture.kv_bytes_per_token
    ).running


def refuse_too_little(needs: Needs, parent: Path) -> None:
    """Raises DiskFull or ConversionError where what is free will not do."""
    import psutil  # type: ignore[import-untyped]

    free = shutil.disk_usage(parent).free
    if free < needs.disk:
        raise DiskFull(
            f"the model needs about {gigabytes(needs.disk)} in {str(parent)!r}, but {gigabytes(free)} is free",
            hint="make room, or choose a folder on another disk",
        )
    memory = psutil.virtual_memory().available + psutil.swap_memory().free
    if memory < needs.memory:
        raise ConversionError(
            f"the conversion needs about {gigabytes(needs.memory)} of memory, but {gigabytes(memory)} is free",
            hint="close other programs, or convert on a larger machine and copy the folder",
        )


def devices(recipe: Recipe, architecture: Architecture, sizes: Sizes) -> dict[str, str]:
    """What each device needs to run the model, in words."""
    context = min(CONTEXT, architecture.context)
    cpu, gpu, npu = (
        estimate_from_sizes(sizes, kind, context, architecture.kv_bytes_per_token) for kind in ("CPU", "GPU", "NPU")
    )
    return {
        "CPU": f"about {gigabytes(cpu.running)} of memory at {context:,} tokens",
        "GPU": f"its driver, and about {gigabytes(gpu.peak)} of memory while it loads",
        "NPU": f"its driver, and about {gigabytes(npu.peak)} of memory while it loads"
        if "NPU" in recipe.devices
        else "the recipe int4-npu",
    }
