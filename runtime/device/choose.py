"""Which engine runs a model folder or a checkpoint, and on what; what it chose, and why."""

import warnings
from dataclasses import dataclass

from ..backends.backend import Backend, Options
from ..backends.echo import Echo
from ..backends.openvino.batched import OpenVINO
from ..backends.openvino.npu import CONTEXT as NPU_CONTEXT
from ..backends.openvino.npu import EMULATED, NPU
from ..backends.openvino.stateful import Stateful
from ..backends.remote import Remote
from ..backends.torch.engine import Torch
from ..backends.torch.ipex import Ipex
from ..checkpoint.checkpoint import Folder
from ..errors import DeviceError, Notice, RequestError
from ..folder.model_folder import Manifest, ModelFolder
from .machine import Machine, detect
from .memory import CONTEXT, LARGEST_ALLOCATION, MemoryEstimate, estimate, format_bytes, longest_context

BACKENDS: tuple[type[Backend], ...] = (OpenVINO, NPU, Echo)  # the first that has a device of the name gets it
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
    """Whether a model has room on a device for `context` tokens: what it needs, what is free, and why not, "" where it
    fits. `kind` is CPU, GPU or NPU."""

    device: str
    kind: str
    context: int
    need: MemoryEstimate
    free: int
    obstacle: str = ""


def choose(device: str = "auto", folder: Folder | None = None, options: Options = Options()) -> DeviceChoice:
    """The engine for `device`: "auto", a name such as "CPU" or "torch:cpu", or a server's URL.

    Raises DeviceError where there is none, or where "auto" finds no device on which the folder fits, and RequestError
    where a longer context is asked for than the model has. A device that was asked for is taken whether or not it
    fits, with a Notice where it does not.
    """
    if folder is not None:
        refuse_context(folder.manifest, options)
    wanted = device.upper()
    if (engine := checkpoint_backend(device)) is Remote:
        return DeviceChoice(Remote, device, "it was asked for")
    if wanted == "AUTO":
        if not OpenVINO.devices():
            raise DeviceError("OpenVINO is not installed here", hint="pip install glm4-edge")
        if not isinstance(folder, ModelFolder):
            return DeviceChoice(OpenVINO, "CPU", "the CPU is there on every machine")
        return choose_automatically(detect(), folder.manifest, options)
    if wanted == "TORCH" and Torch.devices():
        return DeviceChoice(Torch, Torch.devices()[0], "it is the fastest that PyTorch finds here")
    if engine is not None:
        return DeviceChoice(engine, device.lower(), "it was asked for")
    for backend in BACKENDS:
        if wanted in backend.devices():
            if isinstance(folder, ModelFolder) and wanted not in (EMULATED, *Echo.devices()):
                _warn(wanted, folder.manifest, options)
            emulated = ": the NPU's pipeline, emulated on the CPU" if wanted == EMULATED else ""
            taken = openvino(folder.manifest) if backend is OpenVINO and isinstance(folder, ModelFolder) else backend
            return DeviceChoice(taken, wanted, f"it was asked for{emulated}")
    found = [name for backend in BACKENDS if backend is not Echo for name in backend.devices()]
    hint = f"found: auto, {', '.join(found)}; else torch, ipex or a server's URL; `edge doctor` says what is missing"
    raise DeviceError(f"there is no device {device} here", hint=hint)


def refuse_context(manifest: Manifest, options: Options) -> None:
    """Raise RequestError where a longer context is asked for than the model has."""
    most = manifest.context_length
    if options.context is not None and options.context > most:
        raise RequestError(
            f"a context of {options.context:,} tokens is more than {manifest.source.name} has: {most:,}",
            hint=f"ask for at most {most:,}, or leave it out",
        )


def checkpoint_backend(device: str) -> type[Torch] | type[Remote] | None:
    """The engine that works on a checkpoint as it is, where that is what the name is of. Remote needs no weights."""
    kind = device.partition(":")[0].lower()
    return {"http": Remote, "https": Remote, "ipex": Ipex, "torch": Torch}.get(kind)


def choose_automatically(machine: Machine, manifest: Manifest, options: Options = Options()) -> DeviceChoice:
    """What "auto" takes: the first of the machine's devices, best first, on which the model fits.

    An NPU only gets models converted for it; then GPUs, those with memory of their own first; then the CPU. The reason
    names what was passed over. It looks at nothing but its arguments. Raises DeviceError where nothing fits.
    """
    tried = assess_devices(machine, manifest, options)
    passed: list[str] = []
    for fit in tried:
        if not fit.obstacle:
            backend = NPU if fit.kind == "NPU" else openvino(manifest)
            return DeviceChoice(
                backend, fit.device, "; ".join([_reason(fit, machine, manifest), *passed, *_unused(machine)])
            )
        passed.append(f"not {fit.device}: {fit.obstacle}")
    raise DeviceError(
        f"{manifest.source.name} ({manifest.recipe}) fits no device here: {'; '.join(passed)}",
        hint=_suggestions(machine, manifest, options),
    )


def openvino(manifest: Manifest) -> type[Backend]:
    """Which of GenAI's pipelines runs the folder on CPUs and GPUs."""
    return OpenVINO if manifest.paged else Stateful


def assess_devices(machine: Machine, manifest: Manifest, options: Options = Options()) -> tuple[Fit, ...]:
    """Every device of OpenVINO on this machine, best first for this model, and whether it has room for it."""
    found = []
    for npu in machine.npus:
        context = min(options.context or NPU_CONTEXT, manifest.context_length)
        wanted = estimate(manifest, "NPU", context)
        obstacle = _shortage(wanted.peak, machine.free)
        if not is_for_npu(manifest):
            obstacle = f"it wants the recipe {NPU_RECIPE}, this is {manifest.recipe}"
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
    wanted = estimate(manifest, "CPU", context, options.kv_precision, options.threads or machine.cpu.cores)
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


def _suggestions(machine: Machine, manifest: Manifest, options: Options) -> str:
    ways = []
    threads = options.threads or machine.cpu.cores
    if context := longest_context(manifest, "CPU", machine.free, options.kv_precision, threads):
        ways.append(f"ask for a context of at most {context:,} tokens on the CPU")
    elif manifest.recipe in ("int8", "bf16"):
        ways.append(f"convert with the smaller recipe {SMALLEST_RECIPE}")
    else:
        ways.append("take a smaller model of `edge models`")
    ways.append("close other programs")
    ways.append(f"use the server {machine.servers[0]}" if machine.servers else "run it on a server")
    return ", or ".join(ways)


def _warn(device: str, manifest: Manifest, options: Options) -> None:
    for fit in assess_devices(detect(), manifest, options):
        if fit.device == device and fit.obstacle:
            warnings.warn(f"{manifest.source.name} may not fit {device}: {fit.obstacle}", Notice, stacklevel=3)
