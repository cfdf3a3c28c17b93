"""A Python session: cells run in a confined process, whose variables live on from one to the next."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import spawn
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

from ..errors import ToolError
from ..system.awake_time import PolledClock
from ..text import one_line
from .child import receive, send
from .confine import readable_paths, work_folder

_ROOT = Path(__file__).resolve().parents[2]
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from runtime.isolation.child import main; main()"
_START_SECONDS = 30.0
_STEP = 0.1  # seconds between two looks at the clock, and at the folder of a process that Landlock confines
_ANSWER_BYTES = 64 * 2**20
CONFINED = ("namespaces", "landlock")
UNCONFINED = "none"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The limits of a session: seconds of a cell, bytes of memory, and of the files that it writes. Under Landlock each
    file may have `file_bytes`, and all together twice as many."""

    seconds: float = 10.0
    memory_bytes: int = 512 * 2**20
    file_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class CellResult:
    """What a cell printed, its pictures as PNG files, and whether it raised. `lost` is the reason why the process was
    ended, and its variables with it; "" if it goes on."""

    text: str
    pictures: tuple[bytes, ...] = ()
    error: bool = False
    lost: str = ""


class PythonSession:
    """A session, confined as `how` says. Its process starts with the first cell. Close it afterwards."""

    def __init__(self, how: str, limits: SessionLimits = SessionLimits()) -> None:
        self._how = how
        self._limits = limits
        self._lock = Lock()
        self._process: _Process | None = None

    def run(self, code: str) -> CellResult:
        """Run a cell; one after the other, whichever thread asks. Raises ToolError if no process can be started."""
        with self._lock:
            if self._process is None:
                self._process = _Process(self._how, self._limits)
            result = self._process.run(code)
            if result.lost:
                self._end()
            return result

    def close(self) -> None:
        """End the process, and remove its folder."""
        process = self._process
        if process is not None:
            process.kill()  # a cell that runs in another thread then ends
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


@cache
def find_confinement() -> str:
    """Return how processes can be confined on this machine: a test process is started. Raises ToolError."""
    reasons = []
    for how in CONFINED if sys.platform == "linux" else ():
        try:
            _Process(how, SessionLimits()).close()
            return how
        except ToolError as exc:
            reasons.append(str(exc))
    if sys.platform != "linux":
        raise ToolError(
            "the tool python needs a sandbox, which there is on Linux alone",
            hint="leave the tool out, or allow it without a sandbox: its code can then do what you can",
        )
    raise ToolError(
        f"the tool python needs a sandbox, which this machine does not offer: {'; '.join(reasons)}",
        hint="allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0), "
        "use Linux 6.2 or later, or allow the tool without a sandbox",
    )


@dataclass(slots=True, weakref_slot=True)
class _Process:
    """The process of a session, and its folder."""

    how: str
    limits: SessionLimits
    folder: Path = field(init=False)
    _started: "subprocess.Popen[bytes]" = field(init=False)
    _answers: "SimpleQueue[Any]" = field(init=False, default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        if getattr(sys, "frozen", False):
            raise ToolError(
                "the tool python needs a Python interpreter, which a frozen application does not have",
                hint="leave the tool out",
            )
        self.folder = Path(tempfile.mkdtemp(prefix="edge-python-"))
        # A program may end without closing its session.
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self._start()
        except OSError as exc:
            self._remove()
            raise ToolError(
                f"the process of the tool python cannot be started: {exc.strerror}", hint="close other programs"
            ) from exc
        answer = self._wait(_START_SECONDS)
        if not isinstance(answer, dict) or not answer.get("ready"):
            reason = answer.get("problem") if isinstance(answer, dict) else "it ended"
            self.close()
            raise ToolError(f"{self.how}: {one_line(reason or 'no answer')}", hint="leave the tool out")

    def _start(self) -> None:
        for name in ("root", "work"):
            (self.folder / name).mkdir()
        (self.folder / "outside").write_text("not to be read", encoding="utf-8")
        modules = _module_paths()
        settings = {
            "how": self.how,
            "folder": str(self.folder),
            "readable": readable_paths(modules),
            "memory_bytes": self.limits.memory_bytes,
            "file_bytes": self.limits.file_bytes,
            "module_paths": modules,
        }
        python = os.fsdecode(spawn.get_executable() or sys.executable)
        self._started = subprocess.Popen(
            [python, "-I", "-S", "-B", "-c", _BOOT, str(_ROOT), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env=_environment(work_folder(self.how, str(self.folder))),
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        Thread(target=self._read, name="python-tool", daemon=True).start()

    def run(self, code: str) -> CellResult:
        """Run a cell."""
        assert self._started.stdin is not None
        answer: Any = None
        with suppress(OSError):  # it has ended
            send(self._started.stdin, {"code": code})
            answer = self._wait(self.limits.seconds)
        try:
            pictures = tuple(base64.b64decode(one) for one in answer["pictures"])
            return CellResult(str(answer["text"]), pictures, bool(answer["error"]))
        except (TypeError, KeyError, ValueError):
            pass
        if isinstance(answer, str):
            return CellResult("", error=True, lost=answer)
        return CellResult("", error=True, lost="the process ended")

    def _wait(self, seconds: float) -> Any:
        """Return the next answer, None if the process ended, or the text of the limit that it exceeded."""
        clock = PolledClock()
        while (left := seconds - clock.seconds) > 0:
            with suppress(Empty):
                return self._answers.get(timeout=min(left, _STEP))
            if self.how != "namespaces" and self._written() > 2 * self.limits.file_bytes:
                return f"the files are larger than {2 * self.limits.file_bytes / 2**20:g} MB"
        return f"the code ran longer than {seconds:g} seconds"

    def _written(self) -> int:
        total = 0
        for folder, _, names in os.walk(self.folder / "work"):
            for name in names:
                with suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_size + 4096
        return total

    def _read(self) -> None:
        assert self._started.stdout is not None
        try:
            while True:
                self._answers.put(receive(self._started.stdout, _ANSWER_BYTES))
        except (EOFError, OSError, ValueError, RecursionError):
            self._answers.put(None)

    def kill(self) -> None:
        """Kill the process and what belongs to it."""
        with suppress(OSError):
            if sys.platform == "win32":
                self._started.kill()
            else:
                import signal

                os.killpg(self._started.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._started.wait(5)

    def close(self) -> None:
        """Kill the process, and remove its folder."""
        self.kill()
        for pipe in (self._started.stdin, self._started.stdout):
            with suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()
        self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _module_paths() -> Sequence[str]:
    """Return the folders of the interpreter's own modules and of installed packages, from which code may import."""
    return tuple(dict.fromkeys(_interpreter_paths()))


def _interpreter_paths() -> Iterator[str]:
    import sysconfig

    own = {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")}
    for path in sys.path:
        if os.path.isdir(path) and (
            path in own
            or os.path.basename(path) in ("site-packages", "dist-packages")
            or os.path.basename(path) in ("lib-dynload", "DLLs")
        ):
            yield os.path.abspath(path)


def _environment(home: str) -> Mapping[str, str]:
    """Return the variables that the process gets: none of ours, but what Windows needs."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    return kept | {
        "HOME": home,
        "TMPDIR": home,
        "TEMP": home,
        "TMP": home,
        "MPLCONFIGDIR": os.path.join(home, ".matplotlib"),
        "MPLBACKEND": "Agg",
        "LANG": "C.UTF-8",
        "PATH": os.defpath,
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
