"""The engine process: one thread that handles messages, steps the engine, and sends what the step produced. Requests
join and leave between two steps.

A reply whose mask is wider than its grammar may be cut at each token. GenAI finds a block of the KV cache that is not
full by exactly the tokens in it, so an engine that is a token ahead of the cut computes up to a block again. Therefore
it waits a moment, before each step, until such replies have been read.
"""

import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from typing import Any

from ....errors import BackendError, EdgeError
from ....system.native_effects import set_onednn_cache_capacity
from ....system.out_of_memory import HINT, MESSAGE, is_out_of_memory
from ....text import one_line
from ...backend import Delta, Request
from ..genai import map_error
from ..paged.batched import OpenVINO, RunningRequest
from ..paged.pipeline import COMPILED_SHAPES
from ..vision.picture_reader import PictureReading

_ENCODING = 0.03  # seconds before each step
_PICTURES = 0.05  # seconds between two looks at pictures that are read, if there is nothing else to do
_READING = 0.002  # seconds before each step that it waits for the readers of replies that may be cut


def serve(pipe: "Connection[Any, Any]") -> None:
    """Serve requests until the pipe is closed."""
    set_onednn_cache_capacity(2 * COMPILED_SHAPES)
    folder, device, options = pipe.recv()
    try:
        engine = OpenVINO.load(folder, device, options)
    except BaseException as exc:  # noqa: BLE001
        pipe.send(_to_edge_error(exc))
        return
    pipe.send(engine.max_prompt_tokens)
    _EngineLoop(engine, pipe).run()


class _EngineLoop:
    def __init__(self, engine: OpenVINO, pipe: "Connection[Any, Any]") -> None:
        self._engine = engine
        self._pipe = pipe
        self._running: dict[int, RunningRequest] = {}
        self._encoding: dict[int, tuple[Request | None, Generator[None, None, list[int]], float]] = {}
        self._reading: dict[int, tuple[Request, list[int], PictureReading, float]] = {}
        self._out: list[tuple[int, Any]] = []
        self._sent: Counter[int] = Counter()  # deltas of each request
        self._read: dict[int, int] = {}  # deltas that have been read, of requests whose readers are awaited

    def run(self) -> None:
        while True:
            if not self._receive():
                return
            self._encode_pending()
            self._begin_read()
            if not self._running:
                self._flush()
                continue
            try:
                self._engine.step()
            except Exception as exc:  # GenAI's pipeline cannot go on after it  # noqa: BLE001
                self._out.append((-1, None))  # all that follows is of its end
                self._out += [(number, _step_error(exc, running)) for number, running in self._running.items()]
                self._flush()
                return
            for number, running in list(self._running.items()):
                self._collect(number, running)
            self._flush()

    def _receive(self) -> bool:
        """Handle messages: those that have come, and those of readers that are awaited; without requests, wait for one.
        Return False once the process is to end."""
        end = time.perf_counter() + _READING
        while self._pipe.poll(self._patience(end)):
            what, number, value = self._pipe.recv()
            if what == "close":
                return False
            self._handle(what, number, value)
            self._flush()
        for number in self._unread():
            del self._read[number]  # it is not awaited until it reads on
        return True

    def _patience(self, end: float) -> float | None:
        if not (self._running or self._encoding):
            return _PICTURES if self._reading else None
        return max(end - time.perf_counter(), 0.0) if self._unread() else 0.0

    def _unread(self) -> list[int]:
        return [number for number, count in self._read.items() if count < self._sent[number]]

    def _handle(self, what: str, number: int, value: Any) -> None:
        try:
            match what:
                case "begin":
                    slices = self._engine.encode_slices(value.prompt, self._engine.max_prompt_tokens)
                    self._encoding[number] = value, slices, time.perf_counter()
                case "read":
                    if number in self._running or number in self._encoding or number in self._reading:
                        self._read[number] = value
                case "cancel":
                    self._forget(number)
                    self._encoding.pop(number, None)
                    if number in self._reading:
                        self._reading.pop(number)[2].close()
                    if number in self._running:
                        self._engine.cancel(self._running.pop(number))
                case "encode":
                    self._encoding[number] = None, self._engine.encode_slices(value), 0.0
                case "cache":
                    self._out.append((number, self._engine.kv_cache_bytes()))
        except Exception as exc:  # noqa: BLE001
            self._out.append((number, _to_edge_error(exc)))

    def _encode_pending(self) -> None:
        """Tokenize prompts for a while, a slice of each in turn. A request joins the batch when its prompt is
        complete."""
        end = time.perf_counter() + _ENCODING
        while self._encoding and time.perf_counter() < end:
            number, (request, slices, start) = next(iter(self._encoding.items()))
            try:
                next(slices)
                self._encoding[number] = self._encoding.pop(number)  # the others come first
                continue
            except StopIteration as exc:
                ids = exc.value
            except Exception as exc:  # noqa: BLE001
                self._out.append((number, _to_edge_error(exc)))
                del self._encoding[number]
                continue
            del self._encoding[number]
            if request is None:
                self._out.append((number, ids))
                continue
            try:
                if (reading := self._engine.read_pictures(request, ids)) is not None:
                    self._reading[number] = request, ids, reading, start
                else:
                    self._running[number] = self._engine.begin(request, ids, start)
                self._out.append((number, len(ids)))
            except Exception as exc:  # noqa: BLE001
                self._out.append((number, _to_edge_error(exc)))

    def _begin_read(self) -> None:
        """Let those requests join the batch whose pictures are read, and send the progress of the others."""
        for number, (request, ids, reading, start) in list(self._reading.items()):
            if not reading.done:
                if (progress := reading.progress()) is not None:
                    self._out.append((number, Delta("", 0, progress=progress)))
                continue
            del self._reading[number]
            try:
                with closing(reading):
                    self._running[number] = self._engine.begin(request, ids, start, reading.features())
            except Exception as exc:  # noqa: BLE001
                self._out.append((number, _to_edge_error(exc)))

    def _collect(self, number: int, running: RunningRequest) -> None:
        try:
            while not running.finished and running.can_read():
                self._out += [(number, part) for part in running.read()]
        except Exception as exc:  # noqa: BLE001
            self._out.append((number, _to_edge_error(exc)))
            with suppress(RuntimeError):
                self._engine.cancel(self._running.pop(number))
        else:
            if running.finished:
                del self._running[number]

    def _flush(self) -> None:
        if self._out:
            self._pipe.send(self._out)
            for number, part in self._out:
                if isinstance(part, Delta):
                    self._sent[number] += 1
                elif number not in self._running and number not in self._reading:
                    self._forget(number)
            self._out = []

    def _forget(self, number: int) -> None:
        self._sent.pop(number, None)
        self._read.pop(number, None)


def _step_error(exc: Exception, running: RunningRequest) -> EdgeError:
    if isinstance(exc, RuntimeError):
        return map_error(exc, running.request, begun=running.ready)
    return _to_edge_error(exc)


def _to_edge_error(exc: BaseException) -> EdgeError:
    if isinstance(exc, EdgeError):
        return exc
    if is_out_of_memory(exc):
        return BackendError(MESSAGE, hint=HINT)
    return BackendError(f"OpenVINO failed: {one_line(repr(exc))}", hint="load the model again")
