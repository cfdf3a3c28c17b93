"""Loading progress, estimated from the memory of the engine's process: it grows as weights are read and repacked."""

from collections.abc import Callable

from ....device.memory import estimate, recorded_sizes
from ....folder.model_folder import ModelFolder
from ....progress import Progress
from ...backend import Options
from ..int4.loading import find_mapped_weights

_PROCESS = 200 * 2**20  # bytes of the process, with OpenVINO's libraries, before it reads weights
_CONTEXT = 256  # tokens that the estimate is for: the first step has one


class LoadingProgress:
    """Reports of a load: `done` of `total` are bytes of memory, which never decrease. The total is known on a CPU
    alone, where the mapped file and what is repacked of it are both in memory at the end."""

    def __init__(
        self, folder: ModelFolder, device: str, options: Options, progress: Callable[[Progress], None]
    ) -> None:
        self._progress = progress
        self._done = 0
        self._total = None
        if device == "CPU":
            sizes = recorded_sizes(folder.manifest)
            mapped = find_mapped_weights(folder, device, options)
            repacked = estimate(folder.manifest, "CPU", _CONTEXT, mapped=mapped).weights
            self._total = _PROCESS + sizes.weights - sizes.embedding_bytes + repacked

    def update(self, resident: int) -> None:
        """Report the bytes of memory that the process has now."""
        self._done = max(self._done, min(resident, self._total or resident))
        self._progress(Progress("load", done=self._done, total=self._total))

    def finish(self) -> None:
        """Report the end of the load."""
        total = self._total or self._done
        self._progress(Progress("load", done=total, total=total))
