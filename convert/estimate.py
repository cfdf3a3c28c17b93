"""Estimates of the disk and memory that a conversion needs, and the checks before it starts."""

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.checkpoint.vision.tower import Vision
from runtime.device.memory import CONTEXT, estimate_from_sizes, format_bytes, tower_memory
from runtime.errors import ConversionError, DiskFull
from runtime.folder.manifest import ModelSizes

from .check.layerwise import fits_whole
from .graph import EMBEDDING
from .parts import ModelPart, tower_recipe, uncompressed_matrices
from .recipe import Recipe
from .weights import nncf
from .weights.block_gptq import BLOCK_COLUMNS, ROWS
from .weights.compress import CALIBRATED_BLOCK, SCALE_ESTIMATION_FACTOR, matrix_kind
from .weights.sensitivity import presumed_sensitive
from .weights.stored import stored_form, stored_size

# Measured by `python -m benchmarks.conversion`, which samples the memory of a conversion.
OTHER_FILE_BYTES = 64 * 2**20  # on the disk: tokenizers, the graph
PROGRAM_BYTES = 500 * 2**20  # in memory: Python, OpenVINO, NNCF
NNCF_BYTES = 11  # of memory, for each weight that NNCF compresses
LAYER_BYTES = 6  # of memory, for each weight of an uncompressed layer while the checkpoint's logits are computed
_AWQ_BYTES = 24  # of memory, for each weight of a layer's down_proj
_GPTQ_BYTES = (34, 32)  # of memory, for each pair of columns, and for each weight that GPTQ compresses
_HESSIAN_BYTES = 16  # of memory, for each pair of columns of a block: in f64, and its factors
_FIT_BYTES = 7  # of memory, for each of the weights that are rounded at a time
_GGUF_EXTRA_BYTES = (4, 2)  # more than NNCF_BYTES and LAYER_BYTES for a GGUF, which is decoded first
_LARGEST_COPIES = 2  # of the largest tensor of the converted model, while its logits are computed
_VERIFIED_TOKENS = 1024  # of a prompt by which the result is verified
CALIBRATION_TOKENS = 10_000  # of the calibration texts, where they are not known


@dataclass(frozen=True, slots=True)
class ConversionEstimate:
    """The IR's sizes, and the peak of `disk` and `memory` during the conversion, in bytes; `tower` is the size of the
    image tower's IR."""

    sizes: ModelSizes
    disk: int
    memory: int
    tower: int = 0

    @property
    def summary(self) -> str:
        """The estimate in a line."""
        return f"needs about {format_bytes(self.memory)} of memory and {format_bytes(self.disk)} on the disk"


def estimate_conversion(
    checkpoint: CheckpointTensors,
    recipe: Recipe,
    sensitive: Collection[str] | None = None,
    tokens: int = CALIBRATION_TOKENS,
) -> ConversionEstimate:
    """Estimate a conversion. `sensitive` are the matrices that a mixed recipe keeps in 8 bits; None is an upper bound.
    `tokens` are those of the calibration texts."""
    a, bits = checkpoint.architecture, _source_bits(checkpoint)
    sizes = model_sizes(a, recipe, bits, sensitive, _stored_sizes(checkpoint, recipe))
    memory = conversion_memory(a, recipe, sizes, tokens, quantised=bool(checkpoint.quantized_types))
    tower = tower_bytes(a.vision, recipe, bits) if a.vision else 0
    copied = _embedding_bytes(a, recipe, bits) if a.vision and a.tied_embeddings else 0
    return ConversionEstimate(sizes, sizes.weights + tower + copied + OTHER_FILE_BYTES, memory, tower)


def part_bytes(checkpoint: CheckpointTensors, part: ModelPart, sensitive: Collection[str]) -> int:
    """Return the most bytes of the IR of a part."""
    shapes = dict(checkpoint.architecture.all_shapes())
    stored = _stored_sizes(checkpoint, part.recipe)
    of_part = [(name, shapes[name]) for name in part.tensors]
    found = _weight_sizes(of_part, part.recipe, _source_bits(checkpoint), sensitive, stored=stored, exact=part.exact)
    return sum(nbytes for nbytes, _ in found.values()) + OTHER_FILE_BYTES


def disk_bytes(architecture: Architecture, recipe: Recipe) -> int:
    """Return the bytes of a model's weights on the disk, an image tower's included."""
    tower = tower_bytes(architecture.vision, recipe) if architecture.vision else 0
    return model_sizes(architecture, recipe).weights + tower


def tower_bytes(vision: Vision, recipe: Recipe, source_bits: Mapping[str, int] | None = None) -> int:
    """Return the bytes of an image tower's weights in the IR."""
    exact = uncompressed_matrices(vision)
    found = _weight_sizes(vision.shapes(), tower_recipe(recipe), source_bits or {}, (), exact=exact)
    return sum(nbytes for nbytes, _ in found.values())


def _embedding_bytes(a: Architecture, recipe: Recipe, bits: Mapping[str, int]) -> int:
    shape = (a.vocab, a.hidden)
    return _weight_sizes([(EMBEDDING, shape)], recipe, bits, ())[EMBEDDING][0]


def _source_bits(checkpoint: CheckpointTensors) -> dict[str, int]:
    return {name: checkpoint.tensor(name).bits for name in checkpoint.names}


def conversion_memory(
    architecture: Architecture,
    recipe: Recipe,
    sizes: ModelSizes,
    tokens: int = CALIBRATION_TOKENS,
    *,
    quantised: bool = False,
) -> int:
    """Return the peak memory of a conversion, in bytes. The weights of a `quantised` GGUF are decoded first."""
    steps = [*_step_bytes(architecture, recipe, sizes, *(_GGUF_EXTRA_BYTES if quantised else (0, 0)))]
    if recipe.needs_calibration:
        steps.append(_calibration_bytes(architecture, recipe, tokens))
    return PROGRAM_BYTES + max(steps)


def _calibration_bytes(a: Architecture, recipe: Recipe, tokens: int) -> int:
    """Return the bytes of memory that calibration needs: hidden states, inputs, and temporaries."""
    tokens = min(tokens, recipe.calibration_tokens or tokens)
    states = 2 * 4 * tokens * a.hidden
    layer = LAYER_BYTES * sum(prod(shape) for _, shape in a.layer_shapes(0))
    if recipe.gptq:  # keeps the inputs of all matrices, and a Hessian as wide as the widest
        states += 2 * 4 * tokens * (3 * a.hidden + a.ffn)
        hessian, weight = _GPTQ_BYTES
        return states + max(layer, hessian * a.ffn**2 + weight * min(CALIBRATED_BLOCK, a.hidden * a.ffn))
    if recipe.block_gptq:  # adds up Hessians, and keeps no inputs; what the layer took stays in the heap
        hessians = _HESSIAN_BYTES * BLOCK_COLUMNS * (3 * a.hidden + a.ffn)
        return states + hessians + layer + _FIT_BYTES * ROWS * max(a.ffn, a.hidden)
    awq = _AWQ_BYTES * a.hidden * a.ffn if recipe.awq else 0
    return states + max(layer, awq, NNCF_BYTES * min(CALIBRATED_BLOCK, SCALE_ESTIMATION_FACTOR * a.hidden * a.ffn))


def _step_bytes(
    architecture: Architecture, recipe: Recipe, sizes: ModelSizes, temporary: int = 0, layer: int = 0
) -> Iterator[int]:
    """Yield the bytes of memory of each step. Only a small model, which is loaded whole, grows with its layers."""
    if recipe.linear:
        yield (NNCF_BYTES + temporary) * min(nncf.BLOCK, max(prod(shape) for _, shape in architecture.shapes()))
    yield (LAYER_BYTES + layer) * sum(prod(shape) for _, shape in architecture.layer_shapes(0))
    if (vision := architecture.vision) is not None:  # a stage of the tower: a layer, or all that is none
        layer_weights = sum(prod(shape) for _, shape in vision.layer_shapes(0))
        others = sum(prod(shape) for _, shape in vision.shapes()) - vision.layers * layer_weights
        yield LAYER_BYTES * max(layer_weights, others)
    if fits_whole(sizes.weights):
        yield loaded_bytes(architecture, sizes, _VERIFIED_TOKENS)
    else:
        yield _LARGEST_COPIES * sizes.largest


def _stored_sizes(checkpoint: CheckpointTensors, recipe: Recipe) -> dict[str, tuple[int, int]]:
    """Return bytes and group size of the matrices that are taken over as they are stored."""
    tensors = map(checkpoint.tensor, checkpoint.names) if recipe.keep_blocks else ()
    forms = ((tensor, form) for tensor in tensors if (form := stored_form(tensor)))
    return {tensor.name: (stored_size(tensor, form), form.group) for tensor, form in forms}


def model_sizes(
    architecture: Architecture,
    recipe: Recipe,
    source_bits: Mapping[str, int] | None = None,
    sensitive: Collection[str] | None = None,
    stored: Mapping[str, tuple[int, int]] = {},
) -> ModelSizes:
    """Return the sizes of the IR. `source_bits` are the bits of a weight in the checkpoint, by tensor (16 where none is
    given); `stored` the bytes and group sizes of tensors that are taken over as they are stored."""
    eight = presumed_sensitive(architecture, recipe) if sensitive is None else sensitive
    found = _weight_sizes(architecture.shapes(), recipe, source_bits or {}, eight, stored=stored)
    return ModelSizes(
        weights=sum(nbytes for nbytes, _ in found.values()),
        embedding_bytes=0 if architecture.tied_embeddings else found[EMBEDDING][0],
        largest=max(nbytes for nbytes, _ in found.values()),
        groups=sum(groups for _, groups in found.values()),
        layers=architecture.layers,
        hidden=architecture.hidden,
        ffn=architecture.ffn,
        vocab=architecture.vocab,
        kv_heads=architecture.kv_heads,
    )


def _weight_sizes(
    shapes: Iterable[tuple[str, tuple[int, ...]]],
    recipe: Recipe,
    bits: Mapping[str, int],
    sensitive: Collection[str],
    *,
    stored: Mapping[str, tuple[int, int]] = {},
    exact: Collection[str] = (),
) -> dict[str, tuple[int, int]]:
    """Return the bytes of each tensor in the IR, and the groups of its int4 weights; `exact` tensors keep their
    type."""
    found = {}
    for name, shape in shapes:
        if len(shape) == 1:  # norms and biases are kept in f32
            found[name] = (4 * shape[0], 0)
            continue
        if name in exact:
            found[name] = (prod(shape) * bits.get(name, 16) // 8, 0)
            continue
        rows, columns = shape
        kind, eight = matrix_kind(name), name in sensitive
        nbytes = recipe.nbytes(rows, columns, kind=kind, sensitive=eight, source_bits=bits.get(name, 16))
        _, group = recipe.mode_and_group(columns, kind=kind, sensitive=eight)
        if name in stored:
            nbytes, group = stored[name]
        found[name] = (nbytes, 0 if group in (-1, columns) else rows * columns // group)
    return found


def loaded_bytes(architecture: Architecture, sizes: ModelSizes, context: int = CONTEXT) -> int:
    """Return the memory of the decoder on a CPU with `context` tokens in its KV cache, at most its own context
    length."""
    return estimate_from_sizes(
        sizes, "CPU", min(context, architecture.context), architecture.kv_bytes_per_token
    ).running


def require_resources(estimate: ConversionEstimate, parent: Path, what: str = "the conversion") -> None:
    """Raise DiskFull or ConversionError where free disk or memory is below the estimate of `what`."""
    import psutil  # type: ignore[import-untyped]

    free = shutil.disk_usage(parent).free
    if free < estimate.disk:
        raise DiskFull(
            f"the model needs about {format_bytes(estimate.disk)} in {str(parent)!r}, but {format_bytes(free)} is free",
            hint="make room, or choose a folder on another disk",
        )
    memory = psutil.virtual_memory().available + psutil.swap_memory().free
    if memory < estimate.memory:
        raise ConversionError(
            f"{what} needs about {format_bytes(estimate.memory)} of memory, but {format_bytes(memory)} is free",
            hint="close other programs, or convert on a larger machine and copy the folder",
        )


def describe_devices(recipe: Recipe, architecture: Architecture, sizes: ModelSizes, tower: int = 0) -> dict[str, str]:
    """Describe what each device needs to run the model, for the manifest. An image tower of `tower` bytes is loaded
    while it reads a picture."""
    context = min(CONTEXT, architecture.context)
    cpu, gpu, npu = (
        estimate_from_sizes(sizes, kind, context, architecture.kv_bytes_per_token) for kind in ("CPU", "GPU", "NPU")
    )
    if tower:
        more = f"and {format_bytes(tower_memory(tower))} for a picture"
        return {
            "CPU": f"about {format_bytes(cpu.running)} of memory at {context:,} tokens, {more}",
            "GPU": f"its driver, about {format_bytes(gpu.peak)} of memory while it loads, {more}",
            "NPU": "not supported: a vision model runs on CPU and GPU",
        }
    return {
        "CPU": f"about {format_bytes(cpu.running)} of memory at {context:,} tokens",
        "GPU": f"its driver, and about {format_bytes(gpu.peak)} of memory while it loads",
        "NPU": f"its driver, and about {format_bytes(npu.peak)} of memory while it loads"
        if "NPU" in recipe.devices
        else "the recipe int4-npu",
    }
