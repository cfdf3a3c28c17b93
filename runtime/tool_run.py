"""A run of a tool: foreign code, in a thread of its own, with a time limit and a bounded result.

No exception escapes, including SystemExit and KeyboardInterrupt: argparse and click exit on invalid arguments. A real
Ctrl-C interrupts the waiting thread, not the tool's. Python cannot stop a thread: one whose time is over continues, and
its result is dropped. The tools of a chat share a thread as long as each of them returns in time.
"""

import contextvars
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from .cancellation import Cancellation
from .tool_output import ToolOutput, truncate

TIMEOUT = 300.0  # seconds
MAX_CHARACTERS = 65_536  # characters of a result
_ABANDONED = 64  # threads whose time is over and that still run
_SLICE = 0.2  # seconds: Windows does not interrupt a wait by Ctrl-C, only what comes between two

_GRACE = 0.1  # seconds that a tool has to end once its reply is cancelled, which it may have done itself

Outcome = tuple[ToolOutput, bool]  # a result, and whether it is an error

_CANCELLED: Outcome = ToolOutput("cancelled"), True
_lock = Lock()
_running: set[Thread] = set()  # those that nobody waits for


class ToolWorker:
    """The thread in which a chat's tools run, one after the other, so that one tool can use what another has opened (a
    sqlite3 connection, an event loop). It ends with `close`, or when nothing refers to the ToolWorker."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._end: Callable[[], object] = lambda: None

    def start(self, job: Callable[[], None]) -> Thread:
        """Queue the job for the thread and return it. Raises RuntimeError if no thread can be started."""
        thread = self._thread
        if thread is None or not thread.is_alive():  # none goes along with a fork
            self._jobs = SimpleQueue()
            thread = Thread(target=_work, args=(self._jobs,), name="tools", daemon=True)
            thread.start()
            self._thread, self._end = thread, weakref.finalize(self, self._jobs.put, None)
        self._jobs.put(job)
        return thread

    def close(self) -> None:
        """End the thread after its current job. A later `start` begins a new one."""
        self._thread = None
        self._end()


def _work(jobs: "SimpleQueue[Callable[[], None] | None]") -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # what a tool was given is not kept until the next call


def run(
    name: str,
    work: Callable[[], str | ToolOutput],
    explain: Callable[[BaseException], str],
    *,
    timeout: float | None,
    longest: int,
    cancellation: Cancellation,
    worker: ToolWorker,
) -> Outcome:
    """Return the output of `work`, or the text of its exception by `explain`, truncated to `longest` characters.

    After `timeout` seconds the outcome is an error, and immediately when the reply is cancelled. Neither waits for the
    tool.
    """
    if abandoned() >= _ABANDONED:
        return ToolOutput(f"{_ABANDONED} tools still run past their time limits, so {name} was not started"), True
    done: SimpleQueue[Outcome] = SimpleQueue()
    context = contextvars.copy_context()
    with cancellation.on_cancel(lambda: done.put(_CANCELLED)):
        if cancellation.cancelled:
            return _CANCELLED
        try:
            thread = worker.start(lambda: done.put(context.run(_outcome, work, explain, longest)))
        except RuntimeError as exc:
            return ToolOutput(str(exc)), True
        outcome = None
        try:
            outcome = _wait(done, timeout)
            if outcome is _CANCELLED:
                outcome = _wait(done, _GRACE)
        finally:
            if outcome is None:  # the tool still runs
                worker.close()
                with _lock:
                    _running.add(thread)
        if outcome is None and cancellation.cancelled:
            return _CANCELLED
    return outcome or (ToolOutput(f"{name} did not finish within {timeout:g} seconds"), True)


def abandoned() -> int:
    """Return the number of tools that still run although nobody waits for them."""
    with _lock:
        _running.difference_update([thread for thread in _running if not thread.is_alive()])
        return len(_running)


def _wait(done: "SimpleQueue[Outcome]", seconds: float | None) -> Outcome | None:
    """Wait for the outcome; return None after so many seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        with suppress(Empty):
            return done.get(timeout=_SLICE if end is None else max(0, min(_SLICE, end - time.monotonic())))
    return None


def _outcome(work: Callable[[], str | ToolOutput], explain: Callable[[BaseException], str], longest: int) -> Outcome:
    try:
        made = work()
        output = made if isinstance(made, ToolOutput) else ToolOutput(made)
        return output.truncated(longest), False
    except BaseException as exc:  # whatever a tool raises is for the model to read  # noqa: BLE001
        try:
            return ToolOutput(truncate(explain(exc), longest)), True
        except BaseException:  # it fails to describe itself  # noqa: BLE001
            return ToolOutput(type(exc).__name__[:longest]), True
