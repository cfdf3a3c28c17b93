"""A speech model in a process of its own: it can be cancelled, and a crash ends nothing else."""

from collections.abc import Generator
from contextlib import suppress
from threading import Lock
from typing import Any

from ..backends.child import LOADING, Child
from ..cancellation import Cancellation
from ..errors import BackendError, EdgeError
from ..folder.model_folder import ModelFolder
from .audio import require_libraries
from .speech_worker import CANCEL, ENDED, READY

_POLL = 0.1  # seconds between two looks at the process
_PATIENCE = 2.0  # seconds that a cancelled request has to end, before its process is ended


class SpeechProcess:
    """The process of a model folder's speech model, with the model loaded. After a crash, the next request starts
    another. Any thread may use it; requests wait for each other. Raises BackendError."""

    def __init__(self, folder: ModelFolder, device: str) -> None:
        require_libraries()
        self._folder, self._device = folder, device
        self._lock = Lock()
        self._child: Child | None = None
        with self._lock:
            self._start()

    def run(self, request: Any, cancellation: Cancellation | None = None) -> Generator[Any, None, None]:
        """Yield the parts of the answer. Closing the generator cancels the request, as the `cancellation` does. Raises
        EdgeError."""
        with self._lock:
            child = self._start() if self._child is None or not self._child.running else self._child
            ended = False
            try:
                child.pipe.send(request)
                while not (cancellation and cancellation.cancelled):
                    part = self._receive(child)
                    if part is None:
                        continue
                    ended = isinstance(part, EdgeError) or part == ENDED
                    if isinstance(part, EdgeError):
                        raise part
                    if ended:
                        return
                    yield part
            except (OSError, EOFError) as exc:
                ended = True
                raise self._died(child) from exc
            finally:
                if not ended:
                    self._cancel(child)

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.kill()  # whoever reads its pipe gets EOF
        with self._lock:
            if self._child is not None:
                self._child.close()
            self._child = None

    def _start(self) -> Child:
        """Start the process, and wait until the model is loaded."""
        if self._child is not None:
            self._child.close()
        child = self._child = Child("runtime.speech.speech_worker:serve")
        try:
            child.pipe.send((self._folder, self._device))
            while (found := self._receive(child)) is None:
                pass
        except (OSError, EOFError) as exc:
            raise self._died(child) from exc
        if found != READY:
            child.close()
            self._child = None
            raise found
        return child

    def _receive(self, child: Child) -> Any:
        """Return what the process sends next, None if nothing comes for a moment. Raises BackendError if it is stuck,
        EOFError if it has ended."""
        if child.pipe.poll(_POLL):
            return child.pipe.recv()
        if problem := child.problem(working=True, idle=LOADING):
            child.kill()
            raise BackendError(f"the speech model's process {problem}", hint="send the request again")
        return None

    def _cancel(self, child: Child) -> None:
        """End the request that runs; end the process if it does not."""
        with suppress(OSError, EOFError):
            child.pipe.send(CANCEL)
            while child.pipe.poll(_PATIENCE):
                part = child.pipe.recv()
                if isinstance(part, EdgeError) or part == ENDED:
                    return
        child.kill()

    def _died(self, child: Child) -> BackendError:
        child.kill()
        words = child.last_words
        return BackendError(
            f"the speech model's process has died{f': {words}' if words else ''}", hint="send the request again"
        )
