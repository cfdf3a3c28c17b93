"""The engine process: one thread that handles messages, steps the engine, and sends what the step produced. Requests
join and leave between two steps."""

import time
from collections.abc import Generator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from ...errors import BackendError, EdgeError
from ...system.native_effects import set_onednn_cache_capacity
from ...system.out_of_memory import HINT, MESSAGE, is_out_of_memory
from ...text import one_line
from ..backend import Request
from .active_request import ActiveRequest
from .batched import COMPILED_SHAPES, OpenVINO
from .genai import map_error

_ENCODING = 0.03  # seconds before each step


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
        self._running: dict[int, ActiveRequest] = {}
        self._encoding: dict[int, tuple[Request | None, Generator[None, None, list[int]], float]] = {}
        self._out: list[tuple[int, Any]] = []

    def run(self) -> None:
        while True:
            while not (self._running or self._encoding) or self._pipe.poll():
                what, number, value = self._pipe.recv()
                if what == "close":
                    return
                self._handle(what, number, value)
                self._flush()
            self._encode_pending()
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
                self._read(number, running)
            self._flush()

    def _handle(self, what: str, number: int, value: Any) -> None:
        try:
            match what:
                case "begin":
                    slices = self._engine.encode_slices(value.prompt, self._engine.max_prompt_tokens)
                    self._encoding[number] = value, slices, time.perf_counter()
                case "cancel":
                    self._encoding.pop(number, None)
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
                self._running[number] = self._engine.begin(request, ids, start)
                self._out.append((number, len(ids)))
            except Exception as exc:  # noqa: BLE001
                self._out.append((number, _to_edge_error(exc)))

    def _read(self, number: int, running: ActiveRequest) -> None:
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
            self._out = []


def _step_error(exc: Exception, running: ActiveRequest) -> EdgeError:
    if isinstance(exc, RuntimeError):
        return map_error(exc, running.request, begun=running.ready)
    return _to_edge_error(exc)


def _to_edge_error(exc: BaseException) -> EdgeError:
    if isinstance(exc, EdgeError):
        return exc
    if is_out_of_memory(exc):
        return BackendError(MESSAGE, hint=HINT)
    return BackendError(f"OpenVINO failed: {one_line(repr(exc))}", hint="load the model again")
