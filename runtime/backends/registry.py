"""The engines, and those that other packages add under the entry point group `edge.backends`.

A new engine is a file and a line in `BACKENDS`. In a package of its own it is a class and an entry point:

    [project.entry-points."edge.backends"]
    parrot = "parrot:Parrot"
"""

from functools import cache
from importlib.metadata import entry_points

from ..errors import DeviceError
from .backend import Backend
from .echo import Echo
from .openvino.paged.batched import OpenVINO
from .openvino.process.backend import SubprocessBackend
from .openvino.single_request.npu import NPU
from .openvino.single_request.stateful import Stateful
from .remote.engine import Remote
from .scripted import Scripted
from .torch.engine import Torch
from .torch.ipex import Ipex

GROUP = "edge.backends"

# In the order in which they are asked for a device: first those that know its name without importing their library. The
# first that knows the name and accepts the model gets it.
BACKENDS: tuple[type[Backend], ...] = (Remote, Torch, Ipex, Echo, Scripted, OpenVINO, Stateful, NPU)


@cache
def added_backends() -> tuple[type[Backend], ...]:
    """The engines of other packages. Raises DeviceError, naming the package, if one cannot be imported."""
    found = []
    for point in entry_points(group=GROUP):
        try:
            found.append(point.load())
        except Exception as exc:  # whatever an import may raise
            raise DeviceError(
                f"the engine {point.name} of {point.value} cannot be imported: {exc}", hint="update or uninstall it"
            ) from exc
    return tuple(found)


def isolate(backend: type[Backend]) -> type[Backend]:
    """The same engine in a process of its own; the class itself if it has no such form."""
    return SubprocessBackend if backend is OpenVINO else backend
