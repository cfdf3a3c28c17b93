"""The choice of the engine and the device that run a model, with the reason."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from ..device.machine import Machine, detect
from ..device.memory import (
    CONTEXT,
    LARGEST_ALLOCATION,
    MappedWeights,
    MemoryEstimate,
    estimate,
    format_bytes,
    longest_context,
)
from ..errors import DeviceError, Notice, RequestError
from ..folder.manifest import Manifest
from ..source import ModelSource
from .backend import Backend, FoundDevice, Options
from .openvino.availability import unavailable_error
from .openvino.int4.loading import find_mapped_weights
from .openvino.paged.batched import OpenVINO
from .openvino.single_request.npu import CONTEXT as NPU_CONTEXT
from .openvino.single_request.npu import NPU
from .openvino.single_request.stateful import Stateful
from .registry import BACKENDS, added_backends

NPU_RECIPE = "int4-npu"
SMALLEST_RECIPE = "int4"


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """An engine and its device, and why they were chosen."""

    backend: type[Backend]
    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fit:
    """The fit of a model on a device, for `context` tokens: the memory that it needs, the memory that is free, and the
    obstacle, "" if it fits. `kind` is CPU, GPU or NPU."""

    device: str
    kind: str
    context: int
    need: MemoryEstimate
    free: int
    obstacle: str = ""


def choose(device: str = "auto", source: ModelSource | None = None, options: Options = Options()) -> DeviceChoice:
    """Choose the engine for `device`: "auto", a name such as "CPU" or "torch:cpu", or a server's URL.

    Raises DeviceError if there is none, or if "auto" finds no device on which the model fits, and RequestError for a
    longer context than the model has. A device that was asked for is used even if the model does not fit, with a
    Notice.
    """
    manifest = None if source is None else source.manifest
    if manifest is not None:
        require_context(manifest, options)
    if device.upper() == "AUTO":
        if not OpenVINO.devices():
            raise unavailable_error()
        if source is None or manifest is None or source.model_folder is None:
            return DeviceChoice(OpenVINO, "CPU", "the CPU is there on every machine")
        return choose_automatically(detect(), manifest, options, _mapped_weights(source, options))
    able: list[tuple[type[Backend], FoundDevice]] = []
    for pair in _backends_with(device):
        able.append(pair)
        if source is None or pair[0].accepts(source):
            able = [pair]
            break
    if not able:
        if device.upper().partition(".")[0] in ("CPU", "GPU", "NPU") and not OpenVINO.devices():
            raise unavailable_error()
        listed: tuple[type[Backend], ...] = (OpenVINO, NPU, *added_backends())
        names = [name for backend in listed for name in backend.devices()]
        raise DeviceError(
            f"there is no device {device} here",
            hint=f"found: auto, {', '.join(names)}; else torch, ipex or a server's URL; "
            "`edge doctor` says what is missing",
        )
    backend, found = able[0]
    if manifest is not None and found.kind and source is not None and source.model_folder is not None:
        _warn(found.name, source, options)
    return DeviceChoice(backend, found.name, found.reason)


def checkpoint_backend(device: str) -> type[Backend] | None:
    """The engine of that name or URL if it runs checkpoints as they are."""
    if device.upper() == "AUTO":
        return None
    first = next(_backends_with(device), None)
    return first[0] if first is not None and first[0].runs_checkpoints else None


def _backends_with(device: str) -> Iterator[tuple[type[Backend], FoundDevice]]:
    """The engines that know a device of this name; those of other packages only if none of ours does."""
    found = False
    for backend in BACKENDS:
        if device_found := backend.find_device(device):
            found = True
            yield backend, device_found
    for backend in () if found else added_backends():
        if device_found := backend.find_device(device):
            yield backend, device_found


def require_context(manifest: Manifest, options: Options) -> None:
    """Raise RequestError where a longer context is asked for than the model has."""
    most = manifest.context_length
    if options.context is not None and options.context > most:
        raise RequestError(
            f"a context of {options.context:,} tokens is more than {manifest.source.name} has: {most:,}",
            hint=f"use at most {most:,}, or leave it out",
        )


def choose_automatically(
    machine: Machine, manifest: Manifest, options: Options = Options(), mapped: MappedWeights | None = None
) -> DeviceChoice:
    """Choose for "auto": the first of the machine's devices, best first, on which the model fits.

    An NPU only gets models converted for it; then GPUs, those with memory of their own first; then the CPU. The reason
    names what was passed over. `mapped` are the weights that the CPU reads from the file. The choice depends on the
    arguments alone. Raises DeviceError where nothing fits.
    """
    assessed = assess_devices(machine, manifest, options, mapped)
    rejected: list[str] = []
    for fit in assessed:
        if not fit.obstacle:
            backend = NPU if fit.kind == "NPU" else OpenVINO if manifest.paged else Stateful
            return DeviceChoice(
                backend, fit.device, "; ".join([_reason(fit, machine, manifest), *rejected, *_unused(machine)])
            )
        rejected.append(f"not {fit.device}: {fit.obstacle}")
    raise DeviceError(
        f"{manifest.source.name} ({manifest.recipe}) fits no device here: {'; '.join(rejected)}",
        hint=_suggestions(machine, manifest, options, mapped),
    )


def assess_devices(
    machine: Machine, manifest: Manifest, options: Options = Options(), mapped: MappedWeights | None = None
) -> tuple[Fit, ...]:
    """Every device of OpenVINO on this machine, best first for this model, and whether it has room for it. `mapped` are
    the weights that the CPU reads from the file."""
    found = []
    for npu in machine.npus:
        context = min(options.context or NPU_CONTEXT, manifest.context_length)
        wanted = estimate(manifest, "NPU", context)
        obstacle = _shortage(wanted.peak, machine.free)
        if options.adapters:
            obstacle = "it runs no LoRA adapters"
        if not is_for_npu(manifest):
            obstacle = f"it wants the recipe {NPU_RECIPE}, this is {manifest.recipe}"
        if manifest.vision is not None:
            obstacle = "it runs no vision models"
        found.append(Fit(npu.device, "NPU", context, wanted, machine.free, obstacle))
    context = min(options.context or CONTEXT, manifest.context_length)
    for gpu in sorted(machine.gpus, key=lambda gpu: (gpu.integrated, -gpu.memory)):
        wanted = estimate(manifest, "GPU", context, options.kv_precision)
        largest = gpu.largest_allocation or LARGEST_ALLOCATION
        free = min(gpu.memory or machine.free, machine.free) if gpu.integrated else gpu.memory
        # A card with memory of its own holds the model once; the second copy is the machine's, for a moment.
        obstacle = _shortage(wanted.peak if gpu.integrated else wanted.running, free)
        if wanted.largest > largest:
            obstacle = (
                f"a weight of {format_bytes(wanted.largest)} is over its largest allocation, {format_bytes(largest)}"
            )
        found.append(Fit(gpu.device, "GPU", context, wanted, free, obstacle))
    wanted = estimate(
        manifest, "CPU", context, options.kv_precision, options.threads or machine.cpu.cores, mapped=mapped
    )
    found.append(Fit("CPU", "CPU", context, wanted, machine.free, _shortage(wanted.peak, machine.free)))
    return tuple(found)


def _shortage(wanted: int, free: int) -> str:
    return f"it needs {format_bytes(wanted)}, {format_bytes(free)} is free" if wanted > free else ""


def _reason(fit: Fit, machine: Machine, manifest: Manifest) -> str:
    room = f"needs {format_bytes(fit.need.peak)}; {format_bytes(fit.free)} free"
    if fit.kind == "NPU":
        return f"the folder was converted for the NPU ({room})"
    if fit.kind == "GPU":
        return f"a GPU reads prompts faster than the CPU ({room})"
    others = machine.gpus or (machine.npus and is_for_npu(manifest))
    return f"{'the CPU has room for it' if others else 'OpenVINO finds no GPU here'} ({room})"


def is_for_npu(manifest: Manifest) -> bool:
    """Return whether the recipe is the NPU's, with whatever method: int4-npu+gptq is one."""
    return manifest.recipe.split("+")[0] == NPU_RECIPE


def _unused(machine: Machine) -> list[str]:
    """Hardware that is there and that this engine cannot use."""
    found = [f"not the {missing.device}: {missing.what} is missing, see `edge doctor`" for missing in machine.missing]
    return found + [f"not the {card.name}: OpenVINO does not run on it, the engine torch does" for card in machine.cuda]


def _suggestions(machine: Machine, manifest: Manifest, options: Options, mapped: MappedWeights | None) -> str:
    suggestions = []
    threads = options.threads or machine.cpu.cores
    if context := longest_context(manifest, "CPU", machine.free, options.kv_precision, threads, mapped=mapped):
        suggestions.append(f"use a context of at most {context:,} tokens on the CPU")
    elif manifest.recipe in ("int8", "bf16"):
        suggestions.append(f"convert with the smaller recipe {SMALLEST_RECIPE}")
    else:
        suggestions.append("take a smaller model of `edge models`")
    suggestions.append("close other programs")
    suggestions.append(f"use the server {machine.servers[0]}" if machine.servers else "run it on a server")
    return ", or ".join(suggestions)


def _mapped_weights(source: ModelSource, options: Options) -> MappedWeights | None:
    folder = source.model_folder
    return None if folder is None else find_mapped_weights(folder, "CPU", options)


def _warn(device: str, source: ModelSource, options: Options) -> None:
    manifest = source.manifest
    for fit in assess_devices(detect(), manifest, options, _mapped_weights(source, options)):
        if fit.device == device and fit.obstacle:
            warnings.warn(f"{manifest.source.name} may not fit {device}: {fit.obstacle}", Notice, stacklevel=3)
