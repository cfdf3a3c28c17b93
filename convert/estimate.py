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
from .weights.compress import CALIBRATED_BLOCK, EMBEDDING, HEAD, SCALE_ESTIMATION_FACTOR
from .weights.sensitivity import presumed_sensitive

# Measured.
_OTHER_FILE_BYTES = 64 * 2**20  # on the disk: tokenizers, the graph
_PROGRAM = 500 * 2**20  # in memory: Python, OpenVINO, NNCF
_VERIFIED_TOKENS = 1024  # tokens of a prompt with which the result is checked
_NNCF_BYTES = 11  # bytes that NNCF takes for each weight it is given
_LAYER_BYTES = 6  # bytes that the uncompressed layer takes for each of its weights while the checkpoint is asked
_AWQ_BYTES = 24  # bytes that it takes for each weight of a layer's down_proj
_GPTQ_BYTES = (34, 32)  # bytes that it takes for each pair of columns, and for each weight it is given
_GGUF_EXTRA_BYTES = (4, 2)  # bytes that each of the two takes more where the weights of a GGUF are decoded for it
_LARGEST_COPIES = 2  # times the largest piece of the converted model, while that is asked
CALIBRATION_TOKENS = 10_000  # tokens of the calibration texts, where they are not known


@dataclass(frozen=True, slots=True)
class ConversionEstimate:
    """Bytes. `sizes` are the IR's; `disk` and `memory` are what the whole conversion takes at its peak."""

    sizes: Sizes
    disk: int
    memory: int

    @property
    def summary(self) -> str:
        return f"needs about {gigabytes(self.memory)} of memory and {gigabytes(self.disk)} on the disk"


def estimate_conversion(
    checkpoint: CheckpointTensors,
    recipe: Recipe,
    sensitive: Collection[str] | None = None,
    tokens: int = CALIBRATION_TOKENS,
) -> ConversionEstimate:
    """`sensitive` are the matrices that a mixed recipe leaves in 8 bits; before they are known, as many as can be.
    `tokens` are those of the calibration texts."""
    a = checkpoint.architecture
    source_bits = {name: checkpoint.tensor(name).bits for name in checkpoint.names}
    sizes = model_sizes(a, recipe, source_bits, sensitive, _kept_block_sizes(checkpoint, recipe))
    memory = conversion_memory(a, recipe, sizes, tokens, quantised=bool(checkpoint.quantised))
    return ConversionEstimate(sizes, sizes.weights + _OTHER_FILE_BYTES, memory)


def conversion_memory(
    architecture: Architecture,
    recipe: Recipe,
    sizes: Sizes,
    tokens: int = CALIBRATION_TOKENS,
    *,
    quantised: bool = False,
) -> int:
    """Bytes of memory that a conversion takes at its peak; `quantised` is a GGUF, whose weights are decoded."""
    steps = [*_step_bytes(architecture, recipe, sizes, *(_GGUF_EXTRA_BYTES if quantised else (0, 0)))]
    if recipe.needs_calibration:
        steps.append(_calibration_bytes(architecture, recipe, tokens))
    return _PROGRAM + max(steps)


def _calibration_bytes(a: Architecture, recipe: Recipe, tokens: int) -> int:
    """Bytes of memory that the texts take, and what is done with them beside."""
    states = 2 * 4 * tokens * a.hidden
    layer = _LAYER_BYTES * sum(prod(shape) for _, shape in a.layer_shapes(0))
    if recipe.gptq:  # keeps the inputs of all matrices, and works on squares as wide as the widest
        states += 2 * 4 * tokens * (3 * a.hidden + a.ffn)
        hessian, weight = _GPTQ_BYTES
        return states + max(layer, hessian * a.ffn**2 + weight * min(CALIBRATED_BLOCK, a.hidden * a.ffn))
    awq = _AWQ_BYTES * a.hidden * a.ffn if recipe.awq else 0
    return states + max(layer, awq, _NNCF_BYTES * min(CALIBRATED_BLOCK, SCALE_ESTIMATION_FACTOR * a.hidden * a.ffn))


def _step_bytes(
    architecture: Architecture, recipe: Recipe, sizes: Sizes, temporary: int = 0, layer: int = 0
) -> Iterator[int]:
    """Bytes of memory that each step takes. None grows with the number of layers, unless the model is small."""
    if recipe.linear:
        yield (_NNCF_BYTES + temporary) * min(quantise.BLOCK, max(prod(shape) for _, shape in architecture.shapes()))
    yield (_LAYER_BYTES + layer) * sum(prod(shape) for _, shape in architecture.layer_shapes(0))
    if fits_whole(sizes.weights):
        yield loaded_bytes(architecture, sizes, _VERIFIED_TOKENS)
    else:
        yield _LARGEST_COPIES * sizes.largest


def _kept_block_sizes(checkpoint: CheckpointTensors, recipe: Recipe) -> dict[str, int]:
    tensors = map(checkpoint.tensor, checkpoint.names) if recipe.keep_blocks else ()
    return {tensor.name: stored.nbytes(tensor) for tensor in tensors if stored.supports(tensor)}


def model_sizes(
    architecture: Architecture,
    recipe: Recipe,
    source_bits: Mapping[str, int] | None = None,
    sensitive: Collection[str] | None = None,
    kept_blocks: Mapping[str, int] = {},
) -> Sizes:
    """Return the sizes of the IR. `source_bits` are the bits of a weight in the checkpoint, by tensor (16 where none is
    given); `kept_blocks` the bytes of tensors whose GGUF blocks are kept."""
    bits = source_bits or {}
    eight = presumed_sensitive(architecture, recipe) if sensitive is None else sensitive
    nbytes, groups = {}, 0
    for name, shape in architecture.shapes():
        if len(shape) == 1:  # norms and biases are kept in f32
            nbytes[name] = 4 * shape[0]
            continue
        rows, columns = shape
        kind = {"embedding_or_head": name in (EMBEDDING, HEAD), "sensitive": name in eight}
        nbytes[name] = recipe.nbytes(rows, columns, **kind, source_bits=bits.get(name, 16))
        _, group = recipe.mode_and_group(columns, **kind)
        if name in kept_blocks:
            nbytes[name], group = kept_blocks[name], stored.GROUP
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


def require_resources(needs: ConversionEstimate, parent: Path) -> None:
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


def describe_devices(recipe: Recipe, architecture: Architecture, sizes: Sizes) -> dict[str, str]:
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
