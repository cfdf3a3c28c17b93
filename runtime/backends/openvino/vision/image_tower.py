"""The image tower of a vision model, compiled: pixels in, the features of a picture's tokens out."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ....device.machine import free_memory
from ....device.memory import format_bytes, tower_memory
from ....errors import BackendError
from ....folder.ir_files import TOWER
from ....folder.model_folder import CONVERT_AGAIN, ModelFolder
from ...backend import Options
from ..genai import load_properties

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_POLL = 20  # ms between two looks at whether a run was cancelled


class ImageTower:
    """A compiled tower. It runs one picture at a time, in OpenVINO's own threads."""

    def __init__(self, folder: ModelFolder, device: str, options: Options) -> None:
        """Compile the graph. Raises BackendError if memory is short, or if OpenVINO rejects the graph."""
        import openvino

        _require_memory(folder, device)
        with load_properties(folder, device, options, CONVERT_AGAIN, TOWER) as settings:
            settings.pop("KV_CACHE_PRECISION", None)
            if not device.startswith("CPU"):  # a GPU's own choice is f16, which a tower's activations may overflow
                settings.setdefault("INFERENCE_PRECISION_HINT", "f32")
            model = str(folder.path / f"{TOWER}.xml")
            self._request = openvino.Core().compile_model(model, device, settings).create_infer_request()

    def run(self, pixels: "npt.NDArray[np.uint8]", cancelled: Callable[[], bool]) -> "npt.NDArray[np.float32] | None":
        """Return the features, of shape [tokens, width], of pixels of shape [height, width, 3]; None once `cancelled`
        returns True, within one layer of the graph. Raises OpenVINO's RuntimeError."""
        import openvino

        self._request.set_tensor("pixels", openvino.Tensor(pixels[None]))
        self._request.start_async()
        while not self._request.wait_for(_POLL):
            if cancelled():
                self._stop()
                return None
        found: Any = self._request.get_tensor("features").data[0]
        return found.copy()  # type: ignore[no-any-return]

    def _stop(self) -> None:
        """Stop the run. It ends with an error, or in time."""
        self._request.cancel()
        try:
            self._request.wait()
        except RuntimeError:
            return


def tower_bytes(folder: ModelFolder) -> int:
    """Return the size of the tower's weights."""
    return (folder.path / f"{TOWER}.bin").stat().st_size


def _require_memory(folder: ModelFolder, device: str) -> None:
    if device != "CPU":
        return
    wanted, free = tower_memory(tower_bytes(folder)), free_memory()
    if wanted > free:
        raise BackendError(
            f"reading a picture needs {format_bytes(wanted)} of memory, and {format_bytes(free)} are free",
            hint="close other programs, or choose a smaller recipe",
        )
