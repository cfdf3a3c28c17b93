"""Admission of grammars: each is compiled once in a process that can be killed, before an engine gets it.

A grammar is a client's program. To make a tree of it and to compile that takes time and memory, the latter inside the
step that all requests share. So both is done beforehand, within limits; what exceeds them is rejected by name. A short
grammar goes to a quick process, which hands it to a patient one if it takes long and others wait.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heappush
from itertools import count
from threading import Condition, Event, Lock, Thread

from ....cancellation import Cancellation
from ....errors import BackendError, EdgeError, RequestError, UnsupportedGrammar
from ....folder.model_folder import ModelFolder
from ....grammar.grammar import Choice, Grammar, JsonObject, to_tree
from ....grammar.printers.ebnf import EngineGrammar, to_ebnf
from ....grammar.rest import Rest
from ....system.awake_time import PolledClock
from ...child import Child

LIMIT = 1.0  # CPU seconds
_QUICK = 0.25  # CPU seconds, where others wait
_LONG = 8000  # characters from which on a grammar is left to the patient process
_LOOK = 0.1  # seconds between two looks at whether the request was cancelled
_WALL = 30.0  # seconds, for a machine that is busy with other things
_MEMORY = 128 * 2**20  # bytes that one grammar may take
_LARGEST = 512 * 2**20  # bytes of a process, which keeps every grammar, from which on it is started anew
_PER_CHARACTER = 64  # bytes of a compiled grammar, for each of its text
_REMEMBERED = 4096
_POLL = 0.01  # seconds
_NICE, _NICEST = 3, 10  # of the quick process, for which others wait, and of the patient one
_REST = 5.0  # seconds without a grammar after which processes are ended
_SEND = 5  # seconds that the process has to read a grammar
_ENTRY = "runtime.backends.openvino.grammar.worker:serve"


@dataclass(frozen=True, slots=True)
class AdmittedGrammar:
    """A grammar that compiles, in the engine's form: the bytes that it then occupies in an engine, and the CPU seconds
    in which the engine compiles it."""

    grammar: EngineGrammar
    nbytes: int = 0
    seconds: float = 0.0


class _Trial:
    """A grammar that is being compiled, in a thread of its own, so that a cancelled request does not wait for it."""

    def __init__(self) -> None:
        self.done = Event()
        self.failure: BaseException | None = None  # it could not be tried


class GrammarAdmission:
    """Admits grammars for any number of threads. Its processes start with the first grammar."""

    def __init__(self, folder: ModelFolder) -> None:
        self._lock = Lock()
        self._known: OrderedDict[Grammar, AdmittedGrammar | EdgeError] = OrderedDict()
        self._tried: dict[Grammar, _Trial] = {}  # being tried now
        self.quick = TrialLane(folder, _QUICK, stays=True)
        self.patient = TrialLane(folder, LIMIT, stays=False)

    @property
    def pending(self) -> int:
        """The number of grammars that are being compiled now."""
        return len(self._tried)

    def admit(self, grammar: Grammar | Rest, cancellation: Cancellation) -> AdmittedGrammar | None:
        """Return the grammar in the engine's form; None if the request was cancelled before that was known. What
        remains of a grammar that was admitted is not tried.

        Raises UnsupportedGrammar if it cannot be compiled, or not within a second of CPU time.
        """
        if isinstance(grammar, Rest):
            rest = to_ebnf(grammar.tree, cut=True)
            return AdmittedGrammar(rest, _PER_CHARACTER * len(rest.text), rest.seconds)
        if isinstance(grammar, JsonObject) or _is_plain(grammar):
            return AdmittedGrammar(_printed(grammar))
        trial = None
        while not cancellation.cancelled:
            if trial is not None and trial.failure is not None:
                raise trial.failure
            with self._lock:
                if (known := self._known.get(grammar)) is not None:
                    self._known.move_to_end(grammar)
                    break
                if (trial := self._tried.get(grammar)) is None:
                    trial = self._tried[grammar] = _Trial()
                    Thread(target=self._try, args=(grammar, cancellation, trial), name="grammar", daemon=True).start()
            trial.done.wait(_LOOK)
        else:
            return None
        if isinstance(known, EdgeError):
            raise UnsupportedGrammar(str(known), hint=known.hint, grammar=grammar)
        return known

    def _try(self, grammar: Grammar, cancellation: Cancellation, trial: _Trial) -> None:
        try:
            weight = len(repr(grammar))
            found = self.quick.compile(grammar, weight, cancellation) if weight < _LONG else None
            found = found or self.patient.compile(grammar, weight, cancellation)
            if found is None and not cancellation.cancelled:
                found = too_expensive()
            with self._lock:
                if found is not None:
                    self._known[grammar] = found
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        except BaseException as exc:  # noqa: BLE001
            trial.failure = exc
        finally:
            with self._lock:
                del self._tried[grammar]
            trial.done.set()

    def close(self) -> None:
        self.quick.close()
        self.patient.close()


def _is_plain(grammar: Grammar) -> bool:
    """Whether it is a choice of a few short words, such as tools' names, which costs nothing and is never rejected."""
    return (
        isinstance(grammar, Choice)
        and sum(map(len, grammar.options)) <= 4096
        and all(option.replace("\n", "").isprintable() for option in grammar.options)
    )


@lru_cache(maxsize=64)
def _printed(grammar: Grammar) -> EngineGrammar:
    return to_ebnf(to_tree(grammar))


def too_expensive() -> RequestError:
    """Return the error of a grammar that would take too long to compile."""
    return RequestError(
        "the grammar takes more than a second to compile, which every other reply would wait for", hint="simplify it"
    )


class TrialLane:
    """A process that compiles one grammar at a time, the lightest of those that wait first. One that uses more than
    `limit` CPU seconds is given up where others wait, and in any case beyond LIMIT. Once that has happened in a lane
    that `stays`, a spare process stands by to take the place of the one that was ended. When nothing has come for a
    while, the spare process is ended; in a lane that does not stay, its only one."""

    def __init__(self, folder: ModelFolder, limit: float, *, stays: bool) -> None:
        self._folder = folder
        self._limit = limit
        self._stays = stays
        self._used = 0.0  # when the last grammar was through
        self._will_rest = False
        self._changed = Condition()
        self._waiting: list[tuple[int, int]] = []
        self._numbers = count()
        self._busy = False
        self.child: Child | None = None
        self.spare: Child | None = None
        self._wants_spare = False
        self._closed = False

    def compile(self, grammar: Grammar, weight: int, cancellation: Cancellation) -> AdmittedGrammar | EdgeError | None:
        """Return the compiled grammar; None if it takes too long, or the request was cancelled."""
        if not self._take(weight, cancellation):
            return None
        try:
            return self._compile(self._ready(), grammar)
        except (EOFError, OSError):
            self._replace()
            return RequestError("unsupported grammar: it ended the process that tried it", hint="simplify it")
        finally:
            with self._changed:
                self._busy = False
                self._used = time.monotonic()
                if not self._will_rest:
                    self._will_rest = True
                    Thread(target=self._rest, name="grammar-rest", daemon=True).start()
                self._changed.notify_all()

    def _rest(self) -> None:
        """Wait until the lane has been idle for `_REST` seconds, then end the processes that it need not keep."""
        with self._changed:
            while not self._closed and (self._busy or self._waiting or time.monotonic() - self._used < _REST):
                self._changed.wait(_REST)
            if self._closed:
                return
            self._will_rest = self._wants_spare = False
            ended, self.spare = [self.spare], None
            if not self._stays:
                ended.append(self.child)
                self.child = None
            for child in ended:
                if child is not None:
                    child.close()

    def _take(self, weight: int, cancellation: Cancellation) -> bool:
        entry = (weight, next(self._numbers))
        with self._changed:
            heappush(self._waiting, entry)
            try:
                while not self._closed and (self._busy or self._waiting[0] != entry):
                    self._changed.wait(_POLL)
                    if cancellation.cancelled:
                        return False
                self._busy = not self._closed
                return self._busy
            finally:
                self._waiting.remove(entry)
                heapify(self._waiting)
                self._changed.notify_all()

    def _ready(self) -> Child:
        self.child = child = self.child or self._start()
        if self._wants_spare and self._stays and self.spare is None:
            self.spare = self._start()
        if not child.pipe.poll(_WALL):
            self._replace()
            raise BackendError("the process that tries grammars does not start", hint="close other programs")
        child.pipe.recv()
        return child

    def _compile(self, child: Child, grammar: Grammar) -> AdmittedGrammar | EdgeError | None:
        used, memory = child.usage()
        clock = PolledClock()
        child.pipe.send(grammar)
        while not child.pipe.poll(_POLL):
            now, taken = child.usage()
            if not child.running:
                raise EOFError
            limit = self._limit if self._waiting else LIMIT
            if now - used > limit or clock.seconds > _WALL or self._closed:
                self._wants_spare = True
                self._replace()
                return None
            if taken - memory > _MEMORY:
                self._wants_spare = True
                self._replace()
                return RequestError("the grammar takes too much memory", hint="simplify it")
        answer = child.pipe.recv()
        if child.usage()[1] > _LARGEST:
            self._replace()
        if isinstance(answer, EdgeError):
            return answer
        admitted = AdmittedGrammar(*answer)
        return admitted if admitted.seconds <= LIMIT else None

    def _start(self) -> Child:
        child = Child(_ENTRY, nice=_NICE if self._stays else _NICEST)
        child.limit_sends(_SEND)
        child.pipe.send(self._folder)
        return child

    def _replace(self) -> None:
        if self.child is not None:
            self.child.close()
        self.child, self.spare = self.spare, None

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        with self._changed:
            self._closed = True
            while self._busy:  # who compiles looks at it
                self._changed.wait(_POLL)
            for child in (self.child, self.spare):
                if child is not None:
                    child.close()
            self.child = self.spare = None
