"""The requests that need logits: the model that computes them, loaded for the first one, and their turns.

A step is one forward pass for one request: a slice of its prompt, or a token. Requests take turns, so that none waits
for another's reply; each has a KV cache, so only a few run at once, and the others wait in line.
"""

from collections import deque
from threading import Event, Lock, Thread, Timer
from typing import TYPE_CHECKING

from ....folder.model_folder import ModelFolder
from ...backend import Options
from ..genai import map_error
from .request import LogitsRequest

if TYPE_CHECKING:
    from .model import LogitsModel

_RUNNING = 4  # requests with a KV cache at once
_IDLE = 300.0  # seconds after the last request in which the model stays in memory
_PATIENCE = 0.01  # seconds that a step waits for the model, if there is nothing else to do


class LogitsQueue:
    """Requests of one model folder. The model is loaded in a thread, so that other replies go on meanwhile, and is
    released after five minutes without a request. `add`, `step` and `remove` are called by one thread at a time."""

    def __init__(self, folder: ModelFolder, device: str, options: Options) -> None:
        self._loading = (folder, device, options)
        self._requests: deque[LogitsRequest] = deque()
        self._lock = Lock()  # round `_model` and `_timer`
        self._model: LogitsModel | None = None
        self._timer: Timer | None = None
        self._error: Exception | None = None
        self._loaded: Event | None = None  # set once the thread that loads the model has ended

    def __bool__(self) -> bool:
        return bool(self._requests)

    def add(self, request: LogitsRequest) -> None:
        """Append a request, and begin to load the model if it is not loaded."""
        self._requests.append(request)
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._model is None and self._loaded is None:
                self._loaded = Event()
                Thread(target=self._load, args=(self._loaded,), name="logits-model", daemon=True).start()

    def step(self, tokens: int, *, wait: bool) -> None:
        """Run a forward pass for the next request, over at most `tokens`. With `wait`, wait a moment for a model that
        is being loaded."""
        if not self._requests or not self._is_loaded(wait=wait):
            return
        running = self._next()
        assert self._model is not None
        try:
            running.context = running.context or self._model.context()
            running.step(tokens)
        except RuntimeError as exc:
            running.error = map_error(exc, running.request, begun=True)
        if running.ended or running.error is not None:
            self.remove(running)

    def remove(self, request: LogitsRequest) -> None:
        """Remove a request that has ended or was cancelled, and free its KV cache."""
        if request in self._requests:
            self._requests.remove(request)
        request.context = None
        if not self._requests:
            with self._lock:
                self._timer = Timer(_IDLE, self._release_if_idle)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Release the model."""
        self._requests.clear()
        self._release_if_idle()

    def _release_if_idle(self) -> None:
        with self._lock:
            if not self._requests:
                self._model = None

    def _next(self) -> LogitsRequest:
        """Return the request whose turn it is: one with a KV cache, or another if there are few of those."""
        running = sum(request.context is not None for request in self._requests)
        while True:
            request = self._requests[0]
            self._requests.rotate(-1)
            if request.context is not None or running < _RUNNING:
                return request

    def _is_loaded(self, *, wait: bool) -> bool:
        """Return whether the model is loaded. If loading it has failed, the requests that wait for it fail."""
        if self._loaded is not None:
            if not self._loaded.wait(_PATIENCE if wait else 0.0):
                return False
            self._loaded = None
        if self._error is None:
            return self._model is not None
        for request in self._requests:
            request.error = self._error
        self._requests.clear()
        self._error = None
        return False

    def _load(self, loaded: Event) -> None:
        from .model import LogitsModel

        try:
            model = LogitsModel(*self._loading)
        except Exception as exc:  # noqa: BLE001
            self._error = exc
        else:
            with self._lock:
                self._model = model
        loaded.set()
