"""This machine's processors and memory, in one record, and what is missing to use them."""

import csv
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..system.out_of_memory import is_out_of_memory, require_addresses
from ..system.program_output import run_program

SERVERS_VARIABLE = "EDGE_SERVERS"  # URLs, separated by blanks
# Instruction sets by which OpenVINO's CPU plugin and IPEX choose kernels, the slowest first, under Linux's names.
_ISA = {
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_tile": "AMX",
}
# The same under numpy's names; from 2.4 on some are microarchitecture levels of x86-64.
_NUMPY_ISA = {
    "AVX2": "AVX2",
    "X86_V3": "AVX2",
    "AVX512_SKX": "AVX512",
    "X86_V4": "AVX512",
    "AVX512_ICL": "AVX512-VNNI",
    "AVX512_SPR": "AVX512-BF16",
}
NPU_GENERATIONS = {"3720": "Meteor Lake", "4000": "Lunar Lake", "5010": "Panther Lake", "5020": "Panther Lake"}


@dataclass(frozen=True, slots=True)
class CPU:
    """A CPU with its physical cores and the instruction sets that matter."""

    name: str
    cores: int
    isa: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GPU:
    """A GPU of OpenVINO's, sizes in bytes. An integrated one shares the machine's memory."""

    device: str
    name: str
    memory: int
    largest_allocation: int
    integrated: bool = True
    driver: str = ""


@dataclass(frozen=True, slots=True)
class NPUDevice:
    """An NPU of OpenVINO's; `generation` is a key of NPU_GENERATIONS."""

    device: str
    name: str
    generation: str
    driver: str = ""


@dataclass(frozen=True, slots=True)
class CUDACard:
    """An NVIDIA GPU, sizes in bytes. Only the engine torch uses it."""

    name: str
    memory: int
    free: int


@dataclass(frozen=True, slots=True)
class MissingComponent:
    """A component that a device needs and this machine lacks, and how to install it."""

    device: str
    what: str
    cure: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, sizes in bytes. `free` memory is available without swapping. `packages` maps engines to versions."""

    cpu: CPU
    memory: int
    free: int
    gpus: tuple[GPU, ...] = ()
    npus: tuple[NPUDevice, ...] = ()
    cuda: tuple[CUDACard, ...] = ()
    servers: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[MissingComponent, ...] = ()


@dataclass(frozen=True, slots=True)
class DriverProbe:
    """Findings that explain why OpenVINO does not list a device that the PCI bus has."""

    intel_gpu: bool = False
    render_node: bool = False
    render_allowed: bool = False
    opencl: bool = False
    gpu_works: bool = False
    intel_npu: bool = False
    accel_node: bool = False
    accel_allowed: bool = False
    level_zero: bool = False
    npu_works: bool = False
    nvidia: bool = False
    nvidia_works: bool = False


_GROUP = "sudo usermod -aG render $USER, then log in again"
_DEVICE = "load the kernel's driver {driver}; in a container, pass {path} in with --device {path}"


def find_missing(probe: DriverProbe) -> tuple[MissingComponent, ...]:
    """Return the first obstacle of each device that is present but does not work."""
    found = []
    if probe.intel_gpu and not probe.gpu_works:
        if not probe.render_node:
            found.append(
                MissingComponent("GPU", "/dev/dri/renderD*", _DEVICE.format(driver="i915 or xe", path="/dev/dri"))
            )
        elif not probe.render_allowed:
            found.append(MissingComponent("GPU", "access to /dev/dri: the group `render`", _GROUP))
        elif not probe.opencl:
            found.append(
                MissingComponent(
                    "GPU", "the OpenCL loader, libOpenCL.so.1", "sudo apt install ocl-icd-libopencl1 intel-opencl-icd"
                )
            )
        else:
            found.append(
                MissingComponent("GPU", "Intel's OpenCL driver, or it is damaged", "sudo apt install intel-opencl-icd")
            )
    if probe.intel_npu and not probe.npu_works:
        if not probe.accel_node:
            cure = _DEVICE.format(driver="intel_vpu (Linux 6.6 or later)", path="/dev/accel")
            found.append(MissingComponent("NPU", "/dev/accel/accel*", cure))
        elif not probe.accel_allowed:
            found.append(MissingComponent("NPU", "access to /dev/accel: the group `render`", _GROUP))
        elif not probe.level_zero:
            found.append(MissingComponent("NPU", "the Level Zero loader, libze_loader.so.1", "sudo apt install libze1"))
        else:
            packages = "intel-level-zero-npu and intel-driver-compiler-npu"
            cure = f"install {packages} of https://github.com/intel/linux-npu-driver/releases"
            found.append(MissingComponent("NPU", "the NPU's driver and compiler", cure))
    if probe.nvidia and not probe.nvidia_works:
        found.append(
            MissingComponent("CUDA", "NVIDIA's driver (nvidia-smi)", "install it; only --device torch uses the card")
        )
    return tuple(found)


def free_memory() -> int:
    """Return the bytes that are available without swapping."""
    import psutil  # type: ignore[import-untyped]

    return int(psutil.virtual_memory().available)


def detect() -> Machine:
    """Describe this machine. Takes some tenths of a second, as OpenVINO loads its plugins."""
    import psutil

    core = _create_core()
    memory = psutil.virtual_memory()
    gpus, npus, cuda = _detect_gpus(core), _detect_npus(core), _detect_cuda_cards()
    return Machine(
        cpu=CPU(
            _get_property(core, "CPU", "FULL_DEVICE_NAME", "unknown"),
            psutil.cpu_count(logical=False) or 1,
            detect_isa(),
        ),
        memory=memory.total,
        free=free_memory(),
        gpus=gpus,
        npus=npus,
        cuda=cuda,
        servers=tuple(os.environ.get(SERVERS_VARIABLE, "").split()),
        packages=_installed_packages(),
        missing=_find_missing(bool(gpus), bool(npus), bool(cuda)),
    )


def _create_core() -> Any:
    try:
        import openvino
    except ImportError as exc:
        if is_out_of_memory(exc):
            raise
        return None
    require_addresses()
    return openvino.Core()


def _get_property(core: Any, device: str, name: str, default: Any) -> Any:
    """Return a device's property, or `default` if the plugin does not load or does not have it."""
    if core is None:
        return default
    try:
        return core.get_property(device, name)
    except RuntimeError:
        return default


def _device_names(core: Any, kind: str) -> list[str]:
    return [name for name in core.available_devices if name.startswith(kind)] if core is not None else []


def _detect_gpus(core: Any) -> tuple[GPU, ...]:
    return tuple(
        GPU(
            device,
            _get_property(core, device, "FULL_DEVICE_NAME", device),
            int(_get_property(core, device, "GPU_DEVICE_TOTAL_MEM_SIZE", 0)),
            int(_get_property(core, device, "GPU_DEVICE_MAX_ALLOC_MEM_SIZE", 0)),
            "DISCRETE" not in str(_get_property(core, device, "DEVICE_TYPE", "")).upper(),
            str(_get_property(core, device, "GPU_DRIVER_VERSION", "")),
        )
        for device in _device_names(core, "GPU")
    )


def _detect_npus(core: Any) -> tuple[NPUDevice, ...]:
    return tuple(
        NPUDevice(
            device,
            _get_property(core, device, "FULL_DEVICE_NAME", device),
            str(_get_property(core, device, "DEVICE_ARCHITECTURE", "")),
            str(_get_property(core, device, "NPU_DRIVER_VERSION", "")),
        )
        for device in _device_names(core, "NPU")
    )


def _detect_cuda_cards() -> tuple[CUDACard, ...]:
    """Return NVIDIA's GPUs according to nvidia-smi: torch is slow to import and may not be installed."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = run_program(command, 20)
        rows = [(name, int(total) << 20, int(free) << 20) for name, total, free in csv.reader(done.output.splitlines())]
    except (OSError, ValueError):
        return ()
    if done.code:
        return ()
    return tuple(CUDACard(*row) for row in rows)


def detect_isa() -> tuple[str, ...]:
    """Return the instruction sets that matter. Only Linux reports AVX-VNNI and AMX; elsewhere numpy's list is used."""
    try:
        flags = re.search(
            r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
    except OSError:
        return _isa_of_numpy()
    return tuple(name for flag, name in _ISA.items() if flags and flag in flags[1].split())


def _isa_of_numpy() -> tuple[str, ...]:
    """Return what numpy found on this CPU when it was imported, besides what it was built for."""
    import numpy as np

    found = np.show_config(mode="dicts")["SIMD Extensions"]
    features = {*found["baseline"], *found["found"]}
    return tuple(dict.fromkeys(name for key, name in _NUMPY_ISA.items() if key in features))


def _installed_packages() -> dict[str, str]:
    found = {}
    for name in ("openvino", "openvino-genai", "torch", "transformers", "intel-extension-for-pytorch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _find_missing(gpu_works: bool, npu_works: bool, nvidia_works: bool) -> tuple[MissingComponent, ...]:
    if sys.platform != "win32":
        return find_missing(_probe_drivers(gpu_works, npu_works, nvidia_works))
    from . import windows_drivers

    found = windows_drivers.find_missing(
        windows_drivers.read_devices(), gpu_works=gpu_works, npu_works=npu_works, nvidia_works=nvidia_works
    )
    return tuple(MissingComponent(*one) for one in found)


def _probe_drivers(gpu_works: bool, npu_works: bool, nvidia_works: bool) -> DriverProbe:
    if sys.platform != "linux":
        return DriverProbe()
    vendors = {(_read(bus / "vendor"), _read(bus / "class")[:6]) for bus in Path("/sys/bus/pci/devices").glob("*")}
    display = {vendor for vendor, kind in vendors if kind[:4] == "0x03"}
    render, accel = list(Path("/dev/dri").glob("renderD*")), list(Path("/dev/accel").glob("accel*"))
    return DriverProbe(
        intel_gpu="0x8086" in display,
        render_node=bool(render),
        render_allowed=any(os.access(node, os.R_OK | os.W_OK) for node in render),
        opencl=_is_loadable("libOpenCL.so.1"),
        gpu_works=gpu_works,
        intel_npu=("0x8086", "0x1200") in vendors,
        accel_node=bool(accel),
        accel_allowed=any(os.access(node, os.R_OK | os.W_OK) for node in accel),
        level_zero=_is_loadable("libze_loader.so.1"),
        npu_works=npu_works,
        nvidia="0x10de" in display,
        nvidia_works=nvidia_works,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _is_loadable(library: str) -> bool:
    import ctypes

    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
