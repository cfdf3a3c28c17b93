"""Estimates of the disk and memory that a conversion needs, and the checks before it starts."""

import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.device.memory import CONTEXT, estimate_from_sizes, format_bytes
from runtime.errors import ConversionError, DiskFull
from runtime.folder.model_folder import ModelSizes

from .check.layerwise import fits_whole
from .graph import EMBEDDING, HEAD
from .recipe import Recipe
from .weights import nncf
from .weights.compress import CALIBRATED_BLOCK, SCALE_ESTIMATION_FACTOR
from .weights.sensitivity import presumed_sensitive
from .weights.stored import stored_form, stored_size

# Measured by `python -m benchmarks.conversion`, which samples the memory of a conversion.
OTHER_FILE_BYTES = 64 * 2**20  # on the disk: tokenizers, the graph
PROGRAM_BYTES = 500 * 2**20  # in memory: Python, OpenVINO, NNCF
NNCF_BYTES = 11  # of memory, for each weight that NNCF compresses
LAYER_BYTES = 6  # of memory, for each weight of an uncompressed layer while the checkpoint's logits are computed
_AWQ_BYTES = 24  # of memory, for each weight of a layer's down_proj
_GPTQ_BYTES = (34, 32)  # of memory, for each pair of columns, and for each weight that GPTQ compresses
_GGUF_EXTRA_BYTES = (4, 2)  # more than NNCF_BYTES and LAYER_BYTES for a GGUF, which is decoded first
_LARGEST_COPIES = 2  # of the largest tensor of the converted model, while its logits are computed
_VERIFIED_TOKENS = 1024  # of a prompt by which the result is verified
CALIBRATION_TOKENS = 10_000  # of the calibration texts, where they are not known


@dataclass(frozen=True, slots=True)
class ConversionEstimate:
    """The IR's sizes, and the peak of `disk` and `memory` during the conversion, in bytes."""

    sizes: ModelSizes
    disk: int
    memory: int

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
    a = checkpoint.architecture
    source_bits = {name: checkpoint.tensor(name).bits for name in checkpoint.names}
    sizes = model_sizes(a, recipe, source_bits, sensitive, _stored_sizes(checkpoint, recipe))
    memory = conversion_memory(a, recipe, sizes, tokens, quantised=bool(checkpoint.quantized_types))
    return ConversionEstimate(sizes, sizes.weights + OTHER_FILE_BYTES, memory)


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
    """Return the bytes of memory that calibration needs: hidden states, inputs, and NNCF's temporaries."""
    states = 2 * 4 * tokens * a.hidden
    layer = LAYER_BYTES * sum(prod(shape) for _, shape in a.layer_shapes(0))
    if recipe.gptq:  # keeps the inputs of all matrices, and a Hessian as wide as the widest
        states += 2 * 4 * tokens * (3 * a.hidden + a.ffn)
        hessian, weight = _GPTQ_BYTES
        return states + max(layer, hessian * a.ffn**2 + weight * min(CALIBRATED_BLOCK, a.hidden * a.ffn))
    awq = _AWQ_BYTES * a.hidden * a.ffn if recipe.awq else 0
    return states + max(layer, awq, NNCF_BYTES * min(CALIBRATED_BLOCK, SCALE_ESTIMATION_FACTOR * a.hidden * a.ffn))


def _step_bytes(
    architecture: Architecture, recipe: Recipe, sizes: ModelSizes, temporary: int = 0, layer: int = 0
) -> Iterator[int]:
    """Yield the bytes of memory of each step. Only a small model, which is loaded whole, grows with its layers."""
    if recipe.linear:
        yield (NNCF_BYTES + temporary) * min(nncf.BLOCK, max(prod(shape) for _, shape in architecture.shapes()))
    yield (LAYER_BYTES + layer) * sum(prod(shape) for _, shape in architecture.layer_shapes(0))
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
        if name in stored:
            nbytes[name], group = stored[name]
        if group not in (-1, columns):
            groups += rows * columns // group
    return ModelSizes(
        weights=sum(nbytes.values()),
        embedding_bytes=0 if architecture.tied_embeddings else nbytes[EMBEDDING],
        largest=max(nbytes.values()),
        groups=groups,
        layers=architecture.layers,
        hidden=architecture.hidden,
        ffn=architecture.ffn,
        vocab=architecture.vocab,
        kv_heads=architecture.kv_heads,
    )


def loaded_bytes(architecture: Architecture, sizes: ModelSizes, context: int = CONTEXT) -> int:
    """Return the memory of the model on a CPU with `context` tokens in its KV cache, at most its own context length."""
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


def describe_devices(recipe: Recipe, architecture: Architecture, sizes: ModelSizes) -> dict[str, str]:
    """Describe what each device needs to run the model, for the manifest."""
    context = min(CONTEXT, architecture.context)
    cpu, gpu, npu = (
        estimate_from_sizes(sizes, kind, context, architecture.kv_bytes_per_token) for kind in ("CPU", "GPU", "NPU")
    )
    return {
        "CPU": f"about {format_bytes(cpu.running)} of memory at {context:,} tokens",
        "GPU": f"its driver, and about {format_bytes(gpu.peak)} of memory while it loads",
        "NPU": f"its driver, and about {format_bytes(npu.peak)} of memory while it loads"
        if "NPU" in recipe.devices
        else "the recipe int4-npu",
    }
