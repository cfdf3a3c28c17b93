"""Which engine runs a model folder or a checkpoint, and on what."""

from dataclasses import dataclass

from .backends.backend import Backend
from .errors import DeviceError


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and its device, and why they were chosen."""

    backend: type[Backend]
    device: str
    reason: str


def choose(device: str = "auto") -> Choice:
    """The engine for `device`: "auto", a name such as "CPU" or "torch:cpu", or a server's URL. Raises DeviceError where
    there is none."""
    from .backends.echo import Echo
    from .backends.ipex import Ipex
    from .backends.openvino import OpenVINO
    from .backends.remote import Remote
    from .backends.torch import Torch

    if device.startswith(("http://", "https://")):
        return Choice(Remote, device, "it was asked for")
    wanted = device.upper()
    if wanted == "AUTO":
        if not OpenVINO.devices():
            raise DeviceError("OpenVINO is not installed here", hint="pip install glm4-edge")
        return Choice(OpenVINO, "CPU", "the CPU is there on every machine")
    if wanted == "TORCH" and Torch.devices():
        return Choice(Torch, Torch.devices()[0], "it is the fastest that PyTorch finds here")
    if wanted.startswith("TORCH"):
        return Choice(Torch, device.lower(), "it was asked for")
    if wanted == "IPEX":
        return Choice(Ipex, "ipex", "it was asked for")
    for backend in (OpenVINO, Echo):
        if wanted in backend.devices():
            return Choice(backend, wanted, "it was asked for")
    raise DeviceError(f"there is no device {device} here", hint=f"found: auto, {', '.join(OpenVINO.devices())}")
