"""The client side of an engine process."""

import atexit
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from itertools import count
from queue import Empty, SimpleQueue
from threading import Lock, Thread, Timer
from typing import Any

from ....cancellation import Cancellation
from ....errors import BackendError
from ....events import Finish, Usage
from ....source import ModelSource
from ....system.out_of_memory import HINT, reports_out_of_memory
from ....text import one_line
from ...backend import Delta, Options, Request
from ...child import LOADING, Child
from ..genai import closed_error
from .loading_progress import LoadingProgress

_ENTRY = "runtime.backends.openvino.process.worker:serve"
_PULSE = 0.05  # seconds after which a request that waits for its first token can be closed; later the tokens serve
_REPORT = 0.25  # seconds between two reports of a load
_WATCH = 1.0  # seconds between two checks of the process, while somebody waits for it
_SEND = 30  # seconds that the process has to read what is sent: ten of its longest steps
_CLOSE = 2.0  # seconds that the process has to end
_CANCELLED = object()


class EngineBroken(Exception):
    """A step failed, and with it the engine."""

    def __init__(self, error: BackendError) -> None:
        super().__init__(str(error))
        self.error = error


class EngineProcess:
    """An engine process: sends it requests, and routes its answers to the threads that wait for them."""

    def __init__(
        self, source: ModelSource, device: str, options: Options, progress: LoadingProgress | None = None
    ) -> None:
        self.broken = False
        self._closed = False
        self._problem = ""  # why it was ended, if it was
        self._child = Child(_ENTRY)
        atexit.register(self._child.kill)
        self._sending = Lock()
        self._ids = count()
        self._waiting: dict[int, SimpleQueue[Any]] = {}
        try:
            self._child.limit_sends(_SEND)
            self._child.pipe.send((source, device, options))
            loaded = self._await_loaded(progress)
        except BaseException:
            self._close()
            raise
        if isinstance(loaded, BaseException):
            self._close()
            raise loaded
        self.max_prompt_tokens: int = loaded
        self._reader = Thread(target=self._receive, name="engine", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._reader.is_alive()

    @property
    def responds(self) -> bool:
        return not self._child.stopped and not self._child.problem(working=bool(self._waiting))

    def begin(self, request: Request, *, paced: bool = False) -> "EngineReply":
        """Send a request. The result is a context: leaving it before the end cancels the request. The process waits
        for the reader of a `paced` one, for a moment, before it generates the next token."""
        number, answers = self._post("begin", replace(request, cancellation=None))  # type: ignore[arg-type]
        return EngineReply(self, number, answers, request.cancellation, paced=paced)

    def acknowledge(self, number: int, deltas: int) -> None:
        """Tell the process how many deltas of a reply have been read."""
        with suppress(BackendError):  # who waits for the next one learns why
            self._send("read", number, deltas)

    def forget(self, number: int, *, cancel: bool) -> None:
        """Route no more answers to this request, and cancel it if it has not ended."""
        self._waiting.pop(number, None)
        if cancel:
            with suppress(BackendError):
                self._send("cancel", number, None)

    def query(self, what: str, value: Any) -> Any:
        number, answers = self._post(what, value)
        try:
            while True:
                try:
                    answer = answers.get(timeout=_WATCH)
                except Empty:
                    self.check_process(number)
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                return answer
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        self._closed = True
        if self._child.running and not self._child.stopped and self._sending.acquire(timeout=_CLOSE):
            patience = Timer(_CLOSE, self._child.kill)  # where it reads nothing
            patience.start()
            try:
                with suppress(OSError):
                    self._child.pipe.send(("close", -1, None))
            finally:
                self._sending.release()
            self._child.wait(_CLOSE)
            patience.cancel()
        self._child.kill()
        self._reader.join(_CLOSE)

    def _await_loaded(self, progress: LoadingProgress | None) -> Any:
        while not self._child.pipe.poll(_WATCH if progress is None else _REPORT):
            if problem := self._child.problem(working=True, idle=LOADING):
                raise self._process_lost(problem)
            if progress is not None:
                progress.update(self._child.usage()[1])
        try:
            return self._child.pipe.recv()
        except (EOFError, OSError) as exc:
            raise self._process_lost("has died") from exc

    def _post(self, what: str, value: Any) -> "tuple[int, SimpleQueue[Any]]":
        number, answers = next(self._ids), SimpleQueue[Any]()
        self._waiting[number] = answers
        try:
            self._send(what, number, value)
        except BackendError:
            self._waiting.pop(number, None)
            raise
        return number, answers

    def _send(self, what: str, number: int, value: Any) -> None:
        with self._sending:
            if not self.alive:
                raise self._process_lost("has died")
            try:
                self._child.pipe.send((what, number, value))
            except OSError as exc:  # it is gone, or reads nothing: half a message cannot be taken back
                died = isinstance(exc, ConnectionError) or not self._child.running  # its pipe may be closed by now
                self._child.kill()
                raise self._process_lost("has died" if died else "is stopped") from exc

    def check_process(self, number: int) -> None:
        """Raise BackendError, in every waiting thread, if the process died or stopped."""
        if problem := self._child.problem(working=bool(self._waiting)):
            self._problem = self._problem or problem  # another's look may have ended it
            self._child.kill()
            if number in self._waiting:
                raise self._process_lost(self._problem)

    def _process_lost(self, problem: str) -> BackendError:
        if self._closed:
            return closed_error()
        words = self._child.last_words if problem == "has died" else ""
        return BackendError(
            f"the engine's process {problem}" + (f": {one_line(words)}" if words else ""),
            hint=HINT
            if reports_out_of_memory(words)
            else "load the model again; `dmesg` shows whether memory ran out"
            if problem == "has died"
            else "load the model again; a debugger or too little memory may have stopped it",
        )

    def _receive(self) -> None:
        """Route answers until the process ends."""
        with suppress(EOFError, OSError):
            while True:
                for number, part in self._child.pipe.recv():
                    if number < 0:
                        self.broken = True
                    elif answers := self._waiting.get(number):
                        answers.put(EngineBroken(part) if self.broken else part)
        with self._sending:
            self._close()
        for answers in list(self._waiting.values()):
            answers.put(self._process_lost(self._problem or "has died"))

    def _close(self) -> None:
        atexit.unregister(self._child.kill)
        self._child.close()


class EngineReply(AbstractContextManager["EngineReply"]):
    """A reply of the engine process, received part by part."""

    def __init__(
        self,
        engine: EngineProcess,
        number: int,
        answers: "SimpleQueue[Any]",
        cancellation: Cancellation,
        *,
        paced: bool,
    ) -> None:
        self._engine = engine
        self._number = number
        self._answers = answers
        self._watching = ExitStack()
        self._watching.enter_context(cancellation.on_cancel(lambda: answers.put(_CANCELLED)))
        self._start = time.perf_counter()
        self._prompt_tokens, self._new_tokens, self._ttft = 0, 0, 0.0
        self._patience, self._ended = _PULSE, False
        self._paced, self._deltas, self._acknowledged = paced, 0, -1

    def receive(self) -> Delta | Finish:
        """Wait for the next part. A delta without tokens means that the process is still busy.

        Raises EngineBroken if the engine failed, and the request's own error if only that did.
        """
        if self._paced and self._deltas > self._acknowledged and self._answers.empty():
            self._acknowledged = self._deltas
            self._engine.acknowledge(self._number, self._deltas)
        while True:
            try:
                part = self._answers.get(timeout=self._patience)
            except Empty:
                self._engine.check_process(self._number)
                return Delta("", 0)
            if part is _CANCELLED:
                seconds = time.perf_counter() - self._start
                return Finish("cancelled", Usage(self._prompt_tokens, self._new_tokens, self._ttft, seconds))
            if isinstance(part, int):
                self._prompt_tokens = part
                continue
            reading = isinstance(part, Delta) and part.progress is not None
            self._ended, self._patience = not isinstance(part, Delta), _PULSE if reading else _WATCH
            self._deltas += 1
            if isinstance(part, BaseException):
                raise part
            found: Delta | Finish = part
            self._new_tokens += found.tokens if isinstance(found, Delta) else 0
            self._ttft = self._ttft or (0.0 if reading else time.perf_counter() - self._start)
            return found

    def __exit__(self, *_: object) -> None:
        self._watching.close()
        self._engine.forget(self._number, cancel=not self._ended)
