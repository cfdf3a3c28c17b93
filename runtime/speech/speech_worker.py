"""The process of a speech model: it loads the folder, and then runs one request at a time. Recordings are decoded
here, too, so that a damaged one can crash nothing else."""

from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

from ..backends.openvino.genai import error_line
from ..errors import BackendError, EdgeError
from ..folder.model_folder import ModelFolder
from ..system.out_of_memory import HINT, MESSAGE, is_out_of_memory
from ..text import one_line
from .speecht5 import SpeechT5Engine
from .whisper import WhisperEngine

READY, CANCEL, ENDED = "ready", "cancel", "ended"


class SpeechEngine(Protocol):
    """A loaded speech model."""

    def run(self, request: Any, send: Callable[[Any], None], cancelled: Callable[[], bool]) -> None:
        """Answer a request: call `send` with each part, and stop early once `cancelled` returns True."""
        ...


def serve(pipe: "Connection[Any, Any]") -> None:
    """Serve requests until the pipe is closed. Each ends with ENDED or an error."""
    folder, device = pipe.recv()
    try:
        engine = _load(folder, device)
    except BaseException as exc:  # noqa: BLE001
        pipe.send(_to_edge_error(exc))
        return
    pipe.send(READY)
    while True:
        request = pipe.recv()
        if request == CANCEL:  # of a request that had ended by then
            continue
        try:
            engine.run(request, pipe.send, lambda: bool(pipe.poll()))
        except Exception as exc:  # noqa: BLE001
            pipe.send(_to_edge_error(exc))
        else:
            pipe.send(ENDED)


def _load(folder: ModelFolder, device: str) -> SpeechEngine:
    kind = WhisperEngine if folder.manifest.task == "transcription" else SpeechT5Engine
    return kind(folder.path, device)


def _to_edge_error(exc: BaseException) -> EdgeError:
    if isinstance(exc, EdgeError):
        return exc
    if is_out_of_memory(exc):
        return BackendError(MESSAGE, hint=HINT)
    text = error_line(exc) if isinstance(exc, RuntimeError) else one_line(exc)
    return BackendError(f"the speech model has failed: {text}", hint="export and adopt it again")
