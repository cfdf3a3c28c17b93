"""OpenVINO's pipeline in a process of its own: the default, unless an application asks for `in_process`.

GenAI's `step` holds Python's lock: no other thread of its process runs meanwhile, so a window or an event loop would
freeze for as long as a prompt is read. A crash of that process does not take the application along, and the model's
memory is returned for good when it is closed.

Compiled grammars stay in the engine's memory for ever. Beyond a limit the process is restarted between two requests; at
twice the limit new requests wait until the running ones have ended, and then it is.
"""

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from threading import Condition, Thread
from typing import Any, Self, TypeGuard

from ....cancellation import Cancellation
from ....errors import BackendError
from ....events import Finish, Usage
from ....grammar.grammar import Grammar
from ....grammar.printers.ebnf import EngineGrammar
from ....progress import Progress
from ....prompt.template import Prompt
from ....sampling import SamplingParams
from ....source import ModelSource
from ....system.native_effects import disable_alternate_signal_stack
from ...backend import Backend, Delta, FoundDevice, Options, Request
from ..genai import closed_error
from ..grammar.admission import AdmittedGrammar, GrammarAdmission
from ..logits.request import require_no_logits
from ..paged.batched import OpenVINO
from .client import EngineBroken, EngineProcess
from .loading_progress import LoadingProgress

_PULSE = 0.05  # seconds between two checks of whether a waiting request was cancelled
_DRAIN = 60.0  # seconds that requests under no new grammar wait for a process that is to be started again
_GRAMMARS = 512 * 2**20  # bytes, where the options say nothing
_DEAR = 0.1  # CPU seconds of a grammar


class SubprocessBackend(Backend):
    """A model folder on a device of OpenVINO, in a process of its own, for any number of threads."""

    isolated = True
    runs_adapters = OpenVINO.runs_adapters
    reports_ids = True
    masks_wider = True
    reads_ids = True
    reads_pictures = OpenVINO.reads_pictures
    keeps_prefixes = OpenVINO.keeps_prefixes
    max_requests = OpenVINO.max_requests

    def __init__(
        self,
        source: ModelSource,
        device: str,
        options: Options,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Raises what OpenVINO.load does."""
        self._loading = (source, device, options)
        self._bound = _GRAMMARS if options.grammar_memory is None else options.grammar_memory * 2**20
        self._changed = Condition()
        self._running = 0  # requests
        self._grammars: dict[EngineGrammar, int] = {}  # those in the engine's memory, and their bytes
        self._expensive: AdmittedGrammar | None = None  # one that takes long, and is compiled now
        self._expensive_since = self._next_expensive = 0.0  # when that began, and when the next of them may be
        self._closed = False
        folder = source.model_folder
        reports = None
        if progress is not None and folder is not None:
            reports = LoadingProgress(folder, device, options, progress)
        self._engine: EngineProcess | None = EngineProcess(*self._loading, reports)
        self.max_prompt_tokens = self._engine.max_prompt_tokens
        disable_alternate_signal_stack()  # a conversion before it, or the look for devices, may have left none
        assert source.model_folder is not None  # or the engine had not loaded it
        self.admission = GrammarAdmission(source.model_folder)
        if reports is not None:
            try:
                reports.finish()
            except BaseException:
                self.close()
                raise

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return OpenVINO.devices()

    @classmethod
    def find_device(cls, name: str) -> FoundDevice | None:
        return OpenVINO.find_device(name)

    @classmethod
    def accepts(cls, source: ModelSource) -> bool:
        return OpenVINO.accepts(source)

    @classmethod
    def load(cls, source: ModelSource, device: str, options: Options) -> Self:
        return cls(source, device, options)

    @classmethod
    def load_with_progress(
        cls, source: ModelSource, device: str, options: Options, progress: Callable[[Progress], None]
    ) -> Self:
        return cls(source, device, options, progress)

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

    def encode(self, prompt: Prompt) -> list[int]:
        # The ids of a picture's tokens are made of its hash.
        pieces = tuple(piece if isinstance(piece, str) else replace(piece, data=b"") for piece in prompt)
        ids: list[int] = self._query("encode", pieces)
        return ids

    def kv_cache_bytes(self) -> int:
        """Return the bytes of the KV cache that requests use now."""
        return int(self._query("cache", None))

    def admit(self, grammar: Grammar, cancellation: Cancellation) -> None:
        self.admission.admit(grammar, cancellation)

    def require_unconstrained(self, sampling: SamplingParams) -> None:
        require_no_logits(sampling, "a grammar")

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        admitted = None
        if request.grammar is not None and not isinstance(request.grammar, EngineGrammar):
            admitted = self.admission.admit(request.grammar, request.cancellation)
            if admitted is not None:
                request = replace(request, grammar=admitted.grammar)
        paced = isinstance(request.grammar, EngineGrammar) and request.grammar.wide  # it may be cut at each token
        for attempt in range(2):
            engine = self._acquire(admitted, request.cancellation)
            if engine is None:
                yield Finish("cancelled", Usage())
                return
            begun = False
            try:
                with engine.begin(request, paced=paced) as reply:
                    while True:
                        part = reply.receive()
                        if not begun and (isinstance(part, Finish) or part.tokens):
                            begun = True
                            self._grammar_compiled(admitted)
                        yield part
                        if isinstance(part, Finish):
                            return
            except EngineBroken as exc:
                if begun or attempt or request.grammar is not None:
                    raise exc.error from exc
            finally:
                self._grammar_compiled(admitted)
                self._release()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            engine, self._engine = self._engine, None
            self._changed.notify_all()
        self.admission.close()
        if engine is not None:
            engine.close()

    def _query(self, what: str, value: Any) -> Any:
        while True:
            engine = self._current()
            try:
                return engine.query(what, value)
            except BackendError:
                if engine is self._engine or self._closed:
                    raise

    def _current(self) -> "EngineProcess":
        """Return the engine process, restarted if necessary."""
        with self._changed:
            if self._closed:
                raise closed_error()
            if self._engine is None or self._engine.broken:
                self._restart()
            assert self._engine is not None
            return self._engine

    def _acquire(self, admitted: AdmittedGrammar | None, cancellation: Cancellation) -> "EngineProcess | None":
        """Return the engine for a request, which has to `_release` it; None if the request was cancelled while it
        waited."""
        patience = time.monotonic() + _DRAIN
        with self._changed:
            while self._must_wait(admitted, patience):
                if cancellation.cancelled:
                    return None
                self._changed.wait(_PULSE)
            if cancellation.cancelled:
                return None
            if self._exceeds_memory(1) and not self._running and not self._closed:
                self._restart()
            self._running += 1
            try:
                engine = self._current()
            except BaseException:
                self._running -= 1
                raise
            if self._is_new(admitted):
                self._grammars[admitted.grammar] = admitted.nbytes
                if admitted.seconds > _DEAR:
                    self._expensive, self._expensive_since = admitted, time.monotonic()
            return engine

    def _grammar_compiled(self, admitted: AdmittedGrammar | None) -> None:
        """Note that the engine has compiled the grammar. After an expensive one, others get as much time as it took."""
        if admitted is not None and admitted is self._expensive:
            with self._changed:
                now = time.monotonic()
                self._expensive, self._next_expensive = None, 2 * now - self._expensive_since

    def _must_wait(self, admitted: AdmittedGrammar | None, patience: float) -> bool:
        """Whether a request has to wait: for a restart, or because its expensive grammar would block the others too
        often. Compiling one blocks every request, so an equal time without follows it."""
        if self._closed or not self._running:
            return False
        now = time.monotonic()
        if self._is_new(admitted):
            expensive = admitted.seconds > _DEAR
            return self._exceeds_memory(2) or (
                expensive and (self._expensive is not None or now < self._next_expensive)
            )
        return self._exceeds_memory(2) and now < patience

    def _is_new(self, admitted: AdmittedGrammar | None) -> TypeGuard[AdmittedGrammar]:
        return admitted is not None and admitted.nbytes > 0 and admitted.grammar not in self._grammars

    def _release(self) -> None:
        with self._changed:
            self._running -= 1
            if not self._running and self._exceeds_memory(1) and not self._closed:
                Thread(target=self._restart_when_idle, name="engine-restart", daemon=True).start()
            self._changed.notify_all()

    def _exceeds_memory(self, times: int) -> bool:
        return self.grammar_memory >= times * self._bound

    def _restart_when_idle(self) -> None:
        with self._changed, suppress(BackendError):
            if not self._running and self._exceeds_memory(1) and not self._closed:
                self._restart()

    def _restart(self) -> None:
        """Restart the engine process. The caller holds `_changed`."""
        engine, self._engine = self._engine, None
        self._grammars.clear()
        if engine is not None:
            engine.close()
        self._engine = EngineProcess(*self._loading)
