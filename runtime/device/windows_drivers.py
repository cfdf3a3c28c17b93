"""Devices of the PCI bus on Windows whose driver is missing or does not work: what Device Manager marks.

Each device that is present has an id such as PCI\\VEN_8086&DEV_7D1D&SUBSYS_…\\3&11583659&0&58, a problem code of the
Plug and Play manager (0 for none), and in the registry, below Enum and that id, its compatible ids with its PCI class,
and the service that is its driver. `read_devices` asks for them; the rest can be tested anywhere.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_VENDOR = re.compile(r"PCI\\VEN_([0-9A-F]{4})&DEV_([0-9A-F]{4})", re.IGNORECASE)
_CLASS = re.compile(r"PCI\\(?:.*&)?CC_([0-9A-F]{4})", re.IGNORECASE)
_INTEL, _NVIDIA = "8086", "10DE"
_DISPLAY, _ACCELERATOR = "03", "12"  # base classes of PCI
# Without a driver some are shown as a "Multimedia Video Controller": Meteor, Arrow, Lunar, Panther, Wildcat, Nova Lake.
_NPUS = ("7D1D", "AD1D", "643E", "B03E", "FD3E", "D71D")
_BASIC_DISPLAY = "basicdisplay"  # Windows' own driver, which draws and computes nothing
_DISABLED = 22  # CM_PROB_DISABLED
_NOT_INSTALLED = (1, 18, 28)  # CM_PROB_NOT_CONFIGURED, _REINSTALL, _FAILED_INSTALL
_RESTART = 14  # CM_PROB_NEED_RESTART

_GPU_CURE = "install Intel's graphics driver (Arc, Iris Xe) by Windows Update or from https://www.intel.com/download"
_NPU_CURE = "install Intel's NPU driver by Windows Update or from https://www.intel.com/download"
_CUDA_CURE = "install NVIDIA's driver; only --device torch uses the card"


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A device of the PCI bus: its vendor, id and class as four hexadecimal digits, its problem code, and its driver's
    service; "" for what is unknown."""

    vendor: str
    device: str
    kind: str = ""
    problem: int = 0
    service: str = ""


def parse_device(instance: str, compatible: Sequence[str], problem: int, service: str) -> PciDevice | None:
    """Return the device with this instance id, compatible ids, problem code and service; None if it is not PCI's."""
    if (found := _VENDOR.match(instance)) is None:
        return None
    kinds = [match[1].upper() for text in compatible if (match := _CLASS.match(text))]
    return PciDevice(found[1].upper(), found[2].upper(), kinds[0] if kinds else "", problem, service)


def find_missing(
    devices: Iterable[PciDevice], *, gpu_works: bool, npu_works: bool, nvidia_works: bool
) -> tuple[tuple[str, str, str], ...]:
    """Return for each kind of device that is present but does not work its name, what is missing, and the cure."""
    found: dict[str, tuple[str, str, str]] = {}
    for device in devices:
        is_display = device.kind.startswith(_DISPLAY)
        if device.vendor == _INTEL and is_display and not gpu_works:
            found.setdefault("GPU", _explain(device, "GPU", "Intel's graphics driver", _GPU_CURE))
        elif device.vendor == _INTEL and _is_npu(device) and not npu_works:
            found.setdefault("NPU", _explain(device, "NPU", "the NPU's driver", _NPU_CURE))
        elif device.vendor == _NVIDIA and is_display and not nvidia_works:
            found.setdefault("CUDA", _explain(device, "CUDA", "NVIDIA's driver (nvidia-smi)", _CUDA_CURE))
    return tuple(found[name] for name in ("GPU", "NPU", "CUDA") if name in found)


def _is_npu(device: PciDevice) -> bool:
    return device.device in _NPUS or device.kind.startswith(_ACCELERATOR)


def _explain(device: PciDevice, name: str, driver: str, cure: str) -> tuple[str, str, str]:
    if device.problem == _DISABLED:
        return name, "the device, which is disabled in Device Manager,", "enable it there"
    if device.problem == _RESTART:
        return name, f"a restart, which {driver} waits for,", "restart Windows"
    if device.problem in _NOT_INSTALLED or device.service.lower() == _BASIC_DISPLAY:
        return name, driver, cure
    if device.problem:
        return name, f"{driver}, which does not start (code {device.problem}),", cure
    return name, f"{driver}, or it is too old", cure


if sys.platform == "win32":

    def read_devices() -> list[PciDevice]:
        """Return the devices that are present, by cfgmgr32 and the registry; none if Windows does not list them."""
        import ctypes

        manager = ctypes.WinDLL("cfgmgr32")
        present = 0x1 | 0x100  # CM_GETIDLIST_FILTER_ENUMERATOR | CM_GETIDLIST_FILTER_PRESENT
        length = ctypes.c_ulong()
        if manager.CM_Get_Device_ID_List_SizeW(ctypes.byref(length), "PCI", present):
            return []
        buffer = ctypes.create_unicode_buffer(length.value)
        if manager.CM_Get_Device_ID_ListW("PCI", buffer, length, present):
            return []
        instances = ctypes.wstring_at(buffer, length.value).split("\0")
        found = (parse_device(one, *_registry_values(one, _problem(manager, one))) for one in instances if one)
        return [device for device in found if device is not None]

    def _problem(manager: Any, instance: str) -> int:
        import ctypes

        node, status, problem = ctypes.c_ulong(), ctypes.c_ulong(), ctypes.c_ulong()
        if manager.CM_Locate_DevNodeW(ctypes.byref(node), instance, 0):
            return 0
        if manager.CM_Get_DevNode_Status(ctypes.byref(status), ctypes.byref(problem), node, 0):
            return 0
        return problem.value if status.value & 0x400 else 0  # DN_HAS_PROBLEM

    def _registry_values(instance: str, problem: int) -> tuple[Sequence[str], int, str]:
        import winreg

        path = rf"SYSTEM\CurrentControlSet\Enum\{instance}"
        values: dict[str, object] = {}
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
                for name in ("CompatibleIDs", "Service"):
                    try:
                        values[name] = winreg.QueryValueEx(key, name)[0]
                    except OSError:
                        continue
        except OSError:
            pass
        compatible = values.get("CompatibleIDs")
        return compatible if isinstance(compatible, list) else [], problem, str(values.get("Service", ""))

else:

    def read_devices() -> list[PciDevice]:
        """Return no devices: this is not Windows."""
        return []
