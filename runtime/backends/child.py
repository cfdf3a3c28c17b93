"""A Python worker process: started without the application's main module, ended together with this process.

multiprocessing's `spawn` runs the main module again, so that scripts need a guard and notebooks cannot use it. Here the
child imports the function it runs and nothing else, from where this process has it. In a frozen application, whose
executable is not a Python, the child is the application once more, and `import edge` turns it into the worker
(`run_if_frozen_child`) before anything that the application does after its imports.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from multiprocessing import spawn
from multiprocessing.connection import Pipe
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from ..docstrings import are_stripped
from ..errors import BackendError
from ..system.awake_time import PolledClock

if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection as Connection
else:
    from multiprocessing.connection import Connection

_ENTRY = "GLM4_EDGE_CHILD"  # of a frozen application's child: the function, the pipe's handle, the parent's id
_ROOT = Path(__file__).resolve().parents[2]
# No file of the working directory comes before the modules of this process (-P), and no module of another `runtime`.
_BOOT = """
import json, sys
entry, handle, parent, ours, paths = json.loads(sys.argv[1])
sys.path += [path for path in paths if path not in sys.path]
from importlib.util import find_spec
found = find_spec("runtime")
if found is None or found.origin != ours:
    from os.path import dirname
    sys.path.insert(0, dirname(dirname(ours)))
from runtime.backends.child import run
run(entry, handle, parent)
"""
STOPPED = 5.0  # seconds after which a process that is stopped counts as lost
_LONGEST_LOOK = 3.0  # seconds that count between two looks: if more have passed, this process was stopped, too
IDLE = 15.0  # seconds without any CPU time after which one that has work counts as lost, too
LOADING = 60.0  # the same while it loads a model: a slow disk takes no CPU time
_KILLED = 3.0  # seconds that a killed process has to be gone


class Child:
    """A process that runs `entry`, "module:function", with its end of `pipe`. Its output is kept for error messages."""

    def __init__(self, entry: str, *, nice: int = 0) -> None:
        ours, theirs = map(_above_standard, Pipe())
        try:
            self._process = _start(entry, theirs)
        except OSError as exc:
            ours.close()
            raise BackendError(
                f"the engine's process cannot be started: {exc.strerror or exc}",
                hint="close other programs, or keep the engine in this process: in_process=True",
            ) from exc
        finally:
            theirs.close()
        self.pipe: Connection[Any, Any] = ours
        self._printed: deque[bytes] = deque(maxlen=20)
        Thread(target=self._drain, name="engine-output", daemon=True).start()
        self._watch = _Watch(self._process.pid)
        if nice:
            self._watch.lower_priority(nice)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def problem(self, *, working: bool, idle: float = IDLE) -> str:
        """Why no answer is to be expected: "has died", "is stopped" or "does nothing"; else "". A process that is
        `working` uses CPU time within `idle` seconds."""
        return "has died" if not self.running else self._watch.problem(working=working, idle=idle)

    @property
    def stopped(self) -> bool:
        """Whether the process is stopped now (SIGSTOP, a debugger). It may be continued."""
        return self._watch.stopped

    def usage(self) -> tuple[float, int]:
        """CPU seconds since the start, and bytes of memory; zeros after its end."""
        return self._watch.usage()

    @property
    def last_words(self) -> str:
        """The last line of its output, such as the message of an abort; for a SIGBUS, what that means."""
        if sys.platform != "win32" and self._process.poll() == -signal.SIGBUS:
            return "a file of its model became shorter while it was read, or the disk failed"
        lines = [line.decode(errors="replace").strip() for line in self._printed]
        return next((line for line in reversed(lines) if line), "")

    def limit_sends(self, seconds: int) -> None:
        """Make `pipe.send` fail if the process does not read for that long. No effect on Windows."""
        if sys.platform != "win32":
            with socket.socket(fileno=self.pipe.fileno()) as pipe:
                pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, 0))
                pipe.detach()

    def kill(self) -> None:
        """Kill the process; whoever reads the pipe gets EOF. A process in uninterruptible sleep may end later."""
        with suppress(OSError):
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILLED)

    def wait(self, seconds: float) -> None:
        """Wait for the end of the process, and kill it after `seconds`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()

    def close(self) -> None:
        """End the process and close the pipe, which no other thread may be using."""
        self.kill()
        self.pipe.close()

    def _drain(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            self._printed.extend(iter(output.readline, b""))


class _Watch:
    """The state of a process as the operating system reports it."""

    def __init__(self, pid: int) -> None:
        import psutil  # type: ignore[import-untyped]

        self._errors = psutil.Error
        self._stopped = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        self._since: float | None = None
        self._clock = PolledClock(_LONGEST_LOOK)
        self._used, self._progress = 0.0, 0.0
        try:
            self._process = psutil.Process(pid)
        except psutil.Error:
            self._process = None

    def usage(self) -> tuple[float, int]:
        try:
            times = self._process.cpu_times()
            return times.user + times.system, self._process.memory_info().rss
        except (self._errors, AttributeError):
            return 0.0, 0

    @property
    def stopped(self) -> bool:
        try:
            return self._process.status() in self._stopped
        except (self._errors, AttributeError):
            return False

    def problem(self, *, working: bool, idle: float) -> str:
        now = self._clock.seconds
        if not self.stopped:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= STOPPED:
            return "is stopped"
        used, _ = self.usage()
        if used != self._used or not working:
            self._used, self._progress = used, now
        return "does nothing" if now - self._progress >= idle else ""

    def lower_priority(self, nice: int) -> None:
        import psutil

        with suppress(self._errors, AttributeError, OSError):
            self._process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else nice)
        with suppress(OSError):  # Linux may share the CPU out among sessions first (sched(7), autogroup)
            Path(f"/proc/{self._process.pid}/autogroup").write_text(str(nice), encoding="ascii")


def _above_standard(end: "Connection[Any, Any]") -> "Connection[Any, Any]":
    """The end of a pipe, not under the number of a standard stream: where those are closed, it may have come there, and
    what a library prints would go into it."""
    if sys.platform == "win32" or end.fileno() > 2:
        return end
    import fcntl

    with end:
        return Connection(fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


def _start(entry: str, theirs: "Connection[Any, Any]") -> "subprocess.Popen[bytes]":
    handle = theirs.fileno()
    environment = dict(os.environ)
    if are_stripped():  # OpenVINO's tokenizers need their docstrings
        environment["PYTHONOPTIMIZE"] = "1"
    if getattr(sys, "frozen", False):
        command = [sys.executable]
        environment[_ENTRY] = json.dumps([entry, handle, os.getpid()])
    else:
        ours = str(_ROOT / "runtime" / "__init__.py")
        paths = [path for path in sys.path if path and os.path.isabs(path)]
        python, launcher = interpreter()
        environment |= launcher
        command = [python, "-P", "-c", _BOOT, json.dumps([entry, handle, os.getpid(), ours, paths])]
    settings: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "env": environment,
    }
    if sys.platform == "win32":
        os.set_handle_inheritable(handle, True)
        settings["startupinfo"] = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
        settings["creationflags"] = subprocess.CREATE_NO_WINDOW
    else:
        settings |= {"pass_fds": (handle,), "start_new_session": True}  # Ctrl-C is for this process alone
    process: subprocess.Popen[bytes] = _launcher.call(lambda: subprocess.Popen(command, **settings))
    return process


def interpreter(windows: bool = sys.platform == "win32") -> tuple[str, dict[str, str]]:
    """Return the Python to start, and variables for it.

    On Windows, the python.exe of a virtual environment starts another process, the real one. Its CPU time and memory
    would be looked for in vain in the first; so the real one is started, as `multiprocessing` does.
    """
    python = os.fsdecode(spawn.get_executable() or sys.executable)
    base = getattr(sys, "_base_executable", "") or python
    if windows and python == sys.executable and base != python:
        return base, {"__PYVENV_LAUNCHER__": python}
    return python, {}


class _Launcher:
    """Starts processes from a thread that lives as long as this process does: Linux ends a child that has asked for it
    (PR_SET_PDEATHSIG) with the thread that started it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pid = 0  # of the process in which the thread runs: it does not come along with a fork
        self._calls: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]]] = SimpleQueue()

    def call(self, start: Callable[[], Any]) -> Any:
        with self._lock:
            if self._pid != os.getpid():
                self._calls, self._pid = SimpleQueue(), os.getpid()
                Thread(target=self._run, args=(self._calls,), name="launcher", daemon=True).start()
        answers: SimpleQueue[Any] = SimpleQueue()
        self._calls.put((start, answers))
        answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @staticmethod
    def _run(calls: "SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]]]") -> None:
        while True:
            start, answers = calls.get()
            try:
                answers.put(start())
            except BaseException as exc:  # noqa: BLE001
                answers.put(exc)


_launcher = _Launcher()


# In the child.


def run_if_frozen_child() -> None:
    """In a frozen application that was started as a child: do its work, and end the process."""
    if getattr(sys, "frozen", False) and (started := os.environ.pop(_ENTRY, None)):
        run(*json.loads(started))
        os._exit(0)


def run(entry: str, handle: int, parent: int) -> None:
    """Call the function with this end of the pipe. Ctrl-C and a service's signals are left to the parent."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _end_with(parent)
    module, _, function = entry.partition(":")
    work = getattr(import_module(module), function)
    with Connection(handle) as pipe, suppress(EOFError, BrokenPipeError, ConnectionResetError):
        work(pipe)


def _end_with(parent: int) -> None:
    """Linux ends this process with its parent, whatever it does then. Elsewhere it ends when it next reads the pipe."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
