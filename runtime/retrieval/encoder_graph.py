"""The graph of an embedding or reranking model, compiled for a device."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import strict_json
from ..backends.openvino.genai import error_line
from ..errors import BackendError, ModelFolderError
from ..folder.ir import IR_FILE
from ..system.files import read_bounded
from ..system.native_effects import disable_alternate_signal_stack
from ..text import one_line

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MAX_CONFIG_BYTES = 1 << 24


def encoder_device(device: str) -> str:
    """Return the device on which a server with this device for its chats runs such models: a GPU, or else the CPU."""
    return device.upper() if device.upper().startswith("GPU") else "CPU"


def engine_properties(device: str) -> dict[str, Any]:
    """Return the engine's properties: f32 on a CPU, where bf16 would change the third digit."""
    return {"INFERENCE_PRECISION_HINT": "f32"} if device == "CPU" else {}


def load_error(device: str, folder: Path, error: RuntimeError) -> BackendError:
    """Return the error for a folder that the engine cannot load."""
    return BackendError(f"{device} cannot load {folder}: {error_line(error)}", hint="export and adopt it again")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config.json of a folder. Raises ModelFolderError."""
    try:
        found = strict_json.parse(read_bounded(folder / "config.json", _MAX_CONFIG_BYTES))
    except (OSError, ValueError) as exc:
        raise ModelFolderError(
            f"{folder / 'config.json'} cannot be read: {one_line(exc)}", hint="copy the exported model again"
        ) from exc
    return found if isinstance(found, dict) else {}


class EncoderGraph:
    """A compiled graph that reads token ids, and the vectors of its outputs. Raises BackendError."""

    def __init__(self, folder: Path, device: str) -> None:
        import openvino as ov

        config = read_config(folder)
        pad, size = config.get("pad_token_id"), config.get("vocab_size")
        self._pad = pad if isinstance(pad, int) else 0
        self.model_type = str(config.get("model_type", ""))
        self.vocabulary_size = size if isinstance(size, int) else None
        try:
            self._model: Any = ov.Core().compile_model(folder / IR_FILE, device, engine_properties(device))
        except RuntimeError as exc:
            raise load_error(device, folder, exc) from exc
        finally:
            disable_alternate_signal_stack()
        self._inputs = [port.get_any_name() for port in self._model.inputs]
        self._outputs = {name: port for port in self._model.outputs for name in port.names}

    def has_output(self, name: str) -> bool:
        """Return whether the graph has an output of this name."""
        return name in self._outputs

    def infer(
        self, batch: Sequence[Sequence[int]], output: str, *, firsts: Sequence[int] = ()
    ) -> "tuple[npt.NDArray[np.float32], npt.NDArray[Any]]":
        """Run token ids, padded on the right to the longest, and return an output and the attention mask. `firsts` are
        the numbers of the tokens before the second text of each pair. Raises BackendError."""
        import numpy as np

        shape = (len(batch), max(map(len, batch)))
        ids, mask, types = np.full(shape, self._pad, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        for row, first in enumerate(firsts):
            types[row, first : len(batch[row])] = 1
        positions = np.maximum(mask.cumsum(-1) - 1, 0)
        known = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": types,
            "position_ids": positions,
            "beam_idx": np.arange(len(batch), dtype=np.int32),
        }
        try:
            request = self._model.create_infer_request()
            found = request.infer({name: known[name] for name in self._inputs})
            return np.array(found[self._outputs[output]], np.float32), mask
        except RuntimeError as exc:
            raise BackendError(f"the engine has failed: {error_line(exc)}", hint="see its log") from exc
