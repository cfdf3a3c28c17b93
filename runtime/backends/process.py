"""OpenVINO's pipeline in a process of its own, for those who must not stand still while it works.

GenAI's `step` holds Python's lock: half a second for a chunk of a long prompt, in which no other thread of the process
gets a word in. Here one thread of the other process takes what has come, steps, and sends on what the step has brought;
requests join and leave between two steps. What dies there does not take the application along, and memory that a model
took is given back for good when it is closed.
"""

import atexit
import multiprocessing
import os
import signal
from collections.abc import Generator
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Self

from ..checkpoint_folder import Folder
from ..errors import BackendError
from ..messages import Finish
from ..template import Prompt
from .backend import Delta, Options, Request
from .genai import explained
from .openvino import COMPILED_SHAPES, OpenVINO, Running

_PULSE = 0.05  # seconds after which a request that waits for its first token may be closed; later the tokens serve
_DEAD = BackendError("the engine's process has died", hint="load the model again; `dmesg` tells if memory ran out")


class Process:
    """A model folder on a device of OpenVINO, as OpenVINO, for any number of threads."""

    def __init__(self, process: Any, pipe: "Connection[Any, Any]", max_prompt_tokens: int) -> None:
        self.max_prompt_tokens = max_prompt_tokens
        self._process = process
        self._pipe = pipe
        self._sending = Lock()
        self._ids = count()
        self._waiting: dict[int, SimpleQueue[Any]] = {}
        self._reader = Thread(target=self._receive, name="engine", daemon=True)
        self._reader.start()

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return OpenVINO.devices()

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        """Raises what OpenVINO.load does."""
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_work, args=(theirs, folder, device, options), name="engine", daemon=True)
        process.start()
        atexit.register(process.kill)  # multiprocessing would send SIGTERM, which goes unheard there, and wait
        theirs.close()
        try:
            loaded = ours.recv()
        except EOFError:
            loaded = _DEAD
        except BaseException:
            process.kill()
            raise
        if isinstance(loaded, BaseException):
            process.join()
            raise loaded
        return cls(process, ours, loaded)

    @property
    def alive(self) -> bool:
        return self._reader.is_alive()

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.encode(prompt))

    def encode(self, prompt: Prompt) -> list[int]:
        ids: list[int] = self._ask("encode", prompt)
        return ids

    def kv_cache(self) -> int:
        """Bytes of the KV cache that requests use now."""
        return int(self._ask("cache", None))

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        number, parts = self._post("begin", request)
        over, pulse = False, _PULSE
        try:
            while not over:
                try:
                    part = parts.get(timeout=pulse)
                except Empty:
                    yield Delta("", 0)
                    continue
                over, pulse = not isinstance(part, Delta), 20 * _PULSE
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            self._waiting.pop(number, None)
            if not over:
                with suppress(BackendError):
                    self._send("cancel", number, None)

    def close(self) -> None:
        with suppress(BackendError):
            self._send("close", -1, None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        atexit.unregister(self._process.kill)
        self._reader.join()

    def _ask(self, what: str, value: Any) -> Any:
        number, answers = self._post(what, value)
        answer = answers.get()
        self._waiting.pop(number, None)
        if isinstance(answer, BaseException):
            raise answer
        return answer

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
                raise BackendError(str(_DEAD), hint=_DEAD.hint)
            try:
                self._pipe.send((what, number, value))
            except OSError as exc:
                raise BackendError(str(_DEAD), hint=_DEAD.hint) from exc

    def _receive(self) -> None:
        """Hands what comes to those who wait for it."""
        with suppress(EOFError, OSError):
            while True:
                for number, part in self._pipe.recv():
                    if answers := self._waiting.get(number):
                        answers.put(part)
        with self._sending:
            self._pipe.close()
        for answers in list(self._waiting.values()):
            answers.put(BackendError(str(_DEAD), hint=_DEAD.hint))


def _work(pipe: "Connection[Any, Any]", folder: Folder, device: str, options: Options) -> None:
    """The other process. It ends with the pipe: Ctrl-C and a service's signals are for the one that holds it."""
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(2 * COMPILED_SHAPES))  # read when it is loaded
    try:
        engine = OpenVINO.load(folder, device, options)
    except BaseException as exc:
        pipe.send(exc if isinstance(exc, BackendError) else BackendError(f"OpenVINO failed: {exc}"))
        return
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(engine.max_prompt_tokens)
        _Loop(engine, pipe).run()


class _Loop:
    """Takes what has come, steps, sends what the step has brought."""

    def __init__(self, engine: OpenVINO, pipe: "Connection[Any, Any]") -> None:
        self._engine = engine
        self._pipe = pipe
        self._running: dict[int, Running] = {}
        self._out: list[tuple[int, Any]] = []

    def run(self) -> None:
        while True:
            while not self._running or self._pipe.poll():
                what, number, value = self._pipe.recv()
                if what == "close":
                    return
                self._take(what, number, value)
                self._flush()
            try:
                self._engine.step()
            except RuntimeError as exc:
                self._blame(exc)
            for number, running in list(self._running.items()):
                self._read(number, running)
            self._flush()

    def _take(self, what: str, number: int, value: Any) -> None:
        try:
            match what:
                case "begin":
                    self._running[number] = self._engine.begin(value)
                case "cancel":
                    if running := self._running.pop(number, None):
                        self._engine.cancel(running)
                case "encode":
                    self._out.append((number, self._engine.encode(value)))
                case "cache":
                    self._out.append((number, self._engine.kv_cache()))
        except Exception as exc:
            self._out.append((number, _ours(exc)))

    def _read(self, number: int, running: Running) -> None:
        try:
            while not running.over and running.can_read():
                self._out += [(number, part) for part in running.read()]
        except Exception as exc:
            self._drop(number, _ours(exc))
        else:
            if running.over:
                del self._running[number]

    def _blame(self, exc: RuntimeError) -> None:
        """A step failed: by a grammar that the engine meets for the first time, or else for all. GenAI goes on with
        none of those that were in the step, so the others go out and in again; where they stood in the middle of a
        grammar, they cannot."""
        new = {number for number, running in self._running.items() if running.request.grammar and not running.said}
        stopped, self._running = self._running, {}
        with suppress(RuntimeError):
            self._engine.cancel(*stopped.values())
        for number, running in stopped.items():
            if number in new or not new or (running.request.grammar and running.said):
                self._out.append((number, explained(exc, running.request)))
                continue
            self._engine.begin_again(running)
            self._running[number] = running

    def _drop(self, number: int, exc: Exception) -> None:
        self._out.append((number, exc))
        with suppress(RuntimeError):
            self._engine.cancel(self._running.pop(number))

    def _flush(self) -> None:
        if self._out:
            self._pipe.send(self._out)
            self._out = []


def _ours(exc: Exception) -> Exception:
    return exc if type(exc).__module__.endswith("errors") else BackendError(f"OpenVINO failed: {exc!r}")
