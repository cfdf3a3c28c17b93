"""The engine process, the other side of Process: one thread that takes what has come, steps the engine, and sends on
what the step has brought. Requests join and leave between two steps."""

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
from .batched import COMPILED_SHAPES, OpenVINO, Running
from .genai import map_error

_ENCODING = 0.03  # seconds before each step


def work(pipe: "Connection[Any, Any]") -> None:
    """The process's function. It ends with the pipe."""
    set_onednn_cache_capacity(2 * COMPILED_SHAPES)
    folder, device, options = pipe.recv()
    try:
        engine = OpenVINO.load(folder, device, options)
    except BaseException as exc:
        pipe.send(_ours(exc))
        return
    pipe.send(engine.max_prompt_tokens)
    _Loop(engine, pipe).run()


class _Loop:
    def __init__(self, engine: OpenVINO, pipe: "Connection[Any, Any]") -> None:
        self._engine = engine
        self._pipe = pipe
        self._running: dict[int, Running] = {}
        self._encoding: dict[int, tuple[Request | None, Generator[None, None, list[int]], float]] = {}
        self._out: list[tuple[int, Any]] = []

    def run(self) -> None:
        while True:
            while not (self._running or self._encoding) or self._pipe.poll():
                what, number, value = self._pipe.recv()
                if what == "close":
                    return
                self._take(what, number, value)
                self._flush()
            self._encode_on()
            if not self._running:
                self._flush()
                continue
            try:
                self._engine.step()
            except Exception as exc:  # GenAI's pipeline cannot go on after it
                self._out.append((-1, None))  # all that follows is of its end
                self._out += [(number, _failed(exc, running.request)) for number, running in self._running.items()]
                self._flush()
                return
            for number, running in list(self._running.items()):
                self._read(number, running)
            self._flush()

    def _take(self, what: str, number: int, value: Any) -> None:
        try:
            match what:
                case "begin":
                    slices = self._engine.encoding(value.prompt, self._engine.max_prompt_tokens)
                    self._encoding[number] = value, slices, time.perf_counter()
                case "cancel":
                    self._encoding.pop(number, None)
                    if number in self._running:
                        self._engine.cancel(self._running.pop(number))
                case "encode":
                    self._encoding[number] = None, self._engine.encoding(value), 0.0
                case "cache":
                    self._out.append((number, self._engine.kv_cache()))
        except Exception as exc:
            self._out.append((number, _ours(exc)))

    def _encode_on(self) -> None:
        """Tokenise prompts for a while, a slice of each in turn. A request whose prompt is at its end joins the others
        that are being written."""
        end = time.perf_counter() + _ENCODING
        while self._encoding and time.perf_counter() < end:
            number, (request, slices, start) = next(iter(self._encoding.items()))
            try:
                next(slices)
                self._encoding[number] = self._encoding.pop(number)  # the others come first
                continue
            except StopIteration as exc:
                ids = exc.value
            except Exception as exc:
                self._out.append((number, _ours(exc)))
                del self._encoding[number]
                continue
            del self._encoding[number]
            if request is None:
                self._out.append((number, ids))
                continue
            try:
                self._running[number] = self._engine.begin(request, ids, start)
                self._out.append((number, len(ids)))
            except Exception as exc:
                self._out.append((number, _ours(exc)))

    def _read(self, number: int, running: Running) -> None:
        try:
            while not running.over and running.can_read():
                self._out += [(number, part) for part in running.read()]
        except Exception as exc:
            self._out.append((number, _ours(exc)))
            with suppress(RuntimeError):
                self._engine.cancel(self._running.pop(number))
        else:
            if running.over:
                del self._running[number]

    def _flush(self) -> None:
        if self._out:
            self._pipe.send(self._out)
            self._out = []


def _failed(exc: Exception, request: Request) -> EdgeError:
    return map_error(exc, request) if isinstance(exc, RuntimeError) else _ours(exc)


def _ours(exc: BaseException) -> EdgeError:
    if isinstance(exc, EdgeError):
        return exc
    if is_out_of_memory(exc):
        return BackendError(MESSAGE, hint=HINT)
    return BackendError(f"OpenVINO failed: {one_line(repr(exc))}", hint="load the model again")
