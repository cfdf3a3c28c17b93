"""OpenVINO's pipeline in a process of its own: what an application gets, unless it asks for the engine in its own.

GenAI's `step` holds Python's lock: no other thread of the process gets a word in meanwhile, and a window or an event
loop stands still for as long as a prompt is read. What dies in the other process does not take the application along,
and memory that a model took is given back for good when it is closed.

Every grammar stays in the engine's memory for ever. Past a bound the process is started again between two requests;
at twice the bound new requests wait until those that run have ended, and then it is.
"""

import atexit
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from queue import Empty, SimpleQueue
from threading import Condition, Lock, Thread, Timer
from typing import Any, Self, TypeGuard

from ...cancellation import Cancellation
from ...checkpoint.checkpoint import Folder
from ...errors import BackendError
from ...folder.model_folder import ModelFolder
from ...grammar import Grammar
from ...messages import Finish, Usage
from ...prompt.template import Prompt
from ...system.native_effects import disable_alternate_signal_stack
from ...system.out_of_memory import HINT, reports_out_of_memory
from ...text import one_line
from ..backend import Delta, Options, Request
from ..child import LOADING, Child
from .batched import OpenVINO
from .genai import closed
from .grammar_trial import Admitted, GrammarTrial

_ENTRY = "runtime.backends.openvino.engine_worker:work"
_PULSE = 0.05  # seconds after which a request that waits for its first token may be closed; later the tokens serve
_WATCH = 1.0  # seconds between two looks at the process, for those who wait
_SEND = 30  # seconds that the process has to read what is sent: ten of its longest steps
_DRAIN = 60.0  # seconds that requests under no new grammar wait for a process that is to be started again
_GRAMMARS = 512 * 2**20  # bytes, where the options say nothing
_DEAR = 0.1  # CPU seconds of a grammar
_CLOSE = 2.0  # seconds that the process has to end
_CANCELLED = object()


class SubprocessBackend:
    """A model folder on a device of OpenVINO, as OpenVINO, for any number of threads."""

    def __init__(self, folder: Folder, device: str, options: Options) -> None:
        """Raises what OpenVINO.load does."""
        self._loading = (folder, device, options)
        self._bound = _GRAMMARS if options.grammar_memory is None else options.grammar_memory * 2**20
        self._changed = Condition()
        self._running = 0  # requests
        self._grammars: dict[Grammar, int] = {}  # those in the engine's memory, and their bytes
        self._dear: Admitted | None = None  # one that takes long, and is compiled now
        self._dear_since = self._next_dear = 0.0  # when that began, and when the next of them may be
        self._closed = False
        self._engine: _EngineProcess | None = _EngineProcess(*self._loading)
        self.max_prompt_tokens = self._engine.max_prompt_tokens
        disable_alternate_signal_stack()  # a conversion before it, or the look for devices, may have left none
        self._trial = GrammarTrial(folder) if isinstance(folder, ModelFolder) else None

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return OpenVINO.devices()

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        return cls(folder, device, options)

    @property
    def alive(self) -> bool:
        return not self._closed and (self._engine is None or self._engine.alive or self._engine.broken)

    @property
    def responds(self) -> bool:
        """Whether the engine process is alive, is not stopped, and uses CPU time while it has work."""
        engine = self._engine
        return self.alive and (engine is None or engine.broken or engine.responds)

    @property
    def pid(self) -> int:
        """The engine process's id. It changes when the process is restarted."""
        return self._current().pid

    @property
    def grammar_memory(self) -> int:
        """Estimated bytes that compiled grammars occupy in the engine process."""
        return sum(self._grammars.values())

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.encode(prompt))

    def encode(self, prompt: Prompt) -> list[int]:
        ids: list[int] = self._ask("encode", prompt)
        return ids

    def kv_cache(self) -> int:
        """Bytes of the KV cache that requests use now."""
        return int(self._ask("cache", None))

    def admit(self, grammar: Grammar, cancellation: Cancellation) -> None:
        if self._trial is not None:
            self._trial.admit(grammar, cancellation)

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        admitted = None
        if request.grammar is not None and self._trial is not None:
            admitted = self._trial.admit(request.grammar, request.cancellation)
            if admitted is not None:
                request = replace(request, grammar=admitted.grammar)
        for attempt in range(2):
            engine = self._enter(admitted, request.cancellation)
            if engine is None:
                yield Finish("cancelled", Usage())
                return
            said = False
            try:
                for part in engine.generate(request):
                    if not said and (not isinstance(part, Delta) or part.tokens):
                        said = True
                        self._compiled(admitted)
                    yield part
                return
            except _Broken as exc:
                if said or attempt or request.grammar is not None:
                    raise exc.error from exc
            finally:
                self._compiled(admitted)
                self._leave()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            engine, self._engine = self._engine, None
            self._changed.notify_all()
        if self._trial is not None:
            self._trial.close()
        if engine is not None:
            engine.close()

    def _ask(self, what: str, value: Any) -> Any:
        while True:
            engine = self._current()
            try:
                return engine.ask(what, value)
            except BackendError:
                if engine is self._engine or self._closed:
                    raise

    def _current(self) -> "_EngineProcess":
        """The engine, started again where it has to be."""
        with self._changed:
            if self._closed:
                raise closed()
            if self._engine is None or self._engine.broken:
                self._renew()
            assert self._engine is not None
            return self._engine

    def _enter(self, admitted: Admitted | None, cancellation: Cancellation) -> "_EngineProcess | None":
        """The engine for a request, which has to `_leave`; None where it was cancelled while it waited."""
        patience = time.monotonic() + _DRAIN
        with self._changed:
            while self._has_to_wait(admitted, patience):
                if cancellation.cancelled:
                    return None
                self._changed.wait(_PULSE)
            if cancellation.cancelled:
                return None
            if self._full(1) and not self._running and not self._closed:
                self._renew()
            self._running += 1
            try:
                engine = self._current()
            except BaseException:
                self._running -= 1
                raise
            if self._is_new(admitted):
                self._grammars[admitted.grammar] = admitted.nbytes
                if admitted.seconds > _DEAR:
                    self._dear, self._dear_since = admitted, time.monotonic()
            return engine

    def _compiled(self, admitted: Admitted | None) -> None:
        """If that was the dear grammar that is compiled: it is, and others have as long now as it took."""
        if admitted is not None and admitted is self._dear:
            with self._changed:
                now = time.monotonic()
                self._dear, self._next_dear = None, 2 * now - self._dear_since

    def _has_to_wait(self, admitted: Admitted | None, patience: float) -> bool:
        """Whether the process is about to be started again, or compiles dear grammars already: each of them keeps the
        others standing for as long as it takes, so that between two of them they have as long."""
        if self._closed or not self._running:
            return False
        now = time.monotonic()
        if self._is_new(admitted):
            dear = admitted.seconds > _DEAR
            return self._full(2) or (dear and (self._dear is not None or now < self._next_dear))
        return self._full(2) and now < patience

    def _is_new(self, admitted: Admitted | None) -> TypeGuard[Admitted]:
        return admitted is not None and admitted.nbytes > 0 and admitted.grammar not in self._grammars

    def _leave(self) -> None:
        with self._changed:
            self._running -= 1
            if not self._running and self._full(1) and not self._closed:
                Thread(target=self._renew_when_idle, name="engine-restart", daemon=True).start()
            self._changed.notify_all()

    def _full(self, times: int) -> bool:
        return self.grammar_memory >= times * self._bound

    def _renew_when_idle(self) -> None:
        with self._changed, suppress(BackendError):
            if not self._running and self._full(1) and not self._closed:
                self._renew()

    def _renew(self) -> None:
        """Restart the engine process. The caller holds `_changed`."""
        engine, self._engine = self._engine, None
        self._grammars.clear()
        if engine is not None:
            engine.close()
        self._engine = _EngineProcess(*self._loading)


class _Broken(Exception):
    """A step failed, and the engine with it."""

    def __init__(self, error: BackendError) -> None:
        super().__init__(str(error))
        self.error = error


class _EngineProcess:
    """The client of one engine process: sends it requests and routes its answers to the threads that wait for them."""

    def __init__(self, folder: Folder, device: str, options: Options) -> None:
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
            self._child.pipe.send((folder, device, options))
            loaded = self._first_word()
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

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        start = time.perf_counter()
        number, parts = self._post("begin", replace(request, cancellation=None))  # type: ignore[arg-type]
        prompt_tokens, written, ttft = 0, 0, 0.0
        pulse, over = _PULSE, False
        try:
            with request.cancellation.calling(lambda: parts.put(_CANCELLED)):
                while not over:
                    try:
                        part = parts.get(timeout=pulse)
                    except Empty:
                        self._look(number)
                        yield Delta("", 0)
                        continue
                    if part is _CANCELLED:
                        seconds = time.perf_counter() - start
                        yield Finish("cancelled", Usage(prompt_tokens, written, ttft, seconds))
                        return
                    if isinstance(part, int):
                        prompt_tokens = part
                        continue
                    over, pulse = not isinstance(part, Delta), _WATCH
                    if isinstance(part, BaseException):
                        raise part
                    written += part.tokens if isinstance(part, Delta) else 0
                    ttft = ttft or time.perf_counter() - start
                    yield part
        finally:
            self._waiting.pop(number, None)
            if not over:
                with suppress(BackendError):
                    self._send("cancel", number, None)

    def ask(self, what: str, value: Any) -> Any:
        number, answers = self._post(what, value)
        try:
            while True:
                try:
                    answer = answers.get(timeout=_WATCH)
                except Empty:
                    self._look(number)
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

    def _first_word(self) -> Any:
        while not self._child.pipe.poll(_WATCH):
            if problem := self._child.problem(working=True, idle=LOADING):
                raise self._lost(problem)
        try:
            return self._child.pipe.recv()
        except (EOFError, OSError) as exc:
            raise self._lost("has died") from exc

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
                raise self._lost("has died")
            try:
                self._child.pipe.send((what, number, value))
            except OSError as exc:  # it is gone, or reads nothing: half a message cannot be taken back
                self._child.kill()
                raise self._lost("has died" if isinstance(exc, BrokenPipeError) else "is stopped") from exc

    def _look(self, number: int) -> None:
        """Raises BackendError where the process is lost, to all who wait for it."""
        if problem := self._child.problem(working=bool(self._waiting)):
            self._problem = self._problem or problem  # another's look may have ended it
            self._child.kill()
            if number in self._waiting:
                raise self._lost(self._problem)

    def _lost(self, problem: str) -> BackendError:
        if self._closed:
            return closed()
        words = self._child.last_words if problem == "has died" else ""
        return BackendError(
            f"the engine's process {problem}" + (f": {one_line(words)}" if words else ""),
            hint=HINT
            if reports_out_of_memory(words)
            else "load the model again; `dmesg` tells if memory ran out"
            if problem == "has died"
            else "load the model again; a debugger or too little memory may have stopped it",
        )

    def _receive(self) -> None:
        """Hands what comes to those who wait for it."""
        with suppress(EOFError, OSError):
            while True:
                for number, part in self._child.pipe.recv():
                    if number < 0:
                        self.broken = True
                    elif answers := self._waiting.get(number):
                        answers.put(_Broken(part) if self.broken else part)
        with self._sending:
            self._close()
        for answers in list(self._waiting.values()):
            answers.put(self._lost(self._problem or "has died"))

    def _close(self) -> None:
        atexit.unregister(self._child.kill)
        self._child.close()
