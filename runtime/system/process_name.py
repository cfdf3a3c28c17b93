"""A unique name for a process: its id and when it was started.

Linux reports the start of a process in ticks since the boot, and gives each boot an id: setting the clock changes
neither. On other systems the start is a time of day.
"""

import re
import sys
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"(\d+)-(\d+)(?:-([0-9a-f]{8}))?")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK_STEP = 60  # seconds by which a start as a time of day may seem to change
_START_FIELD = 19  # index of the start among the fields of /proc/PID/stat after the command: proc_pid_stat(5)


def process_name(pid: int) -> str:
    """Return the name: "PID-TICKS-BOOT", or "PID-SECONDS" without a boot id. Raises psutil.NoSuchProcess."""
    import psutil  # type: ignore[import-untyped]

    if boot := _boot_id():
        with suppress(OSError, ValueError, IndexError):
            return f"{pid}-{_start_ticks(pid)}-{boot}"
    return f"{pid}-{int(psutil.Process(pid).create_time())}"


def is_process_name(text: str) -> bool:
    """Return whether a text has the form of such a name."""
    return _NAME.fullmatch(text) is not None


def is_alive(name: str) -> bool:
    """Return whether the process with this name runs: not another process with its id, and not a zombie. Returns True
    if the system does not report it."""
    import psutil

    found = _NAME.fullmatch(name)
    if found is None:
        return False
    pid, start, boot = int(found[1]), int(found[2]), found[3]
    if boot and boot != _boot_id():
        return False
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        if boot:
            return _start_ticks(pid) == start
        return bool(abs(process.create_time() - start) <= _CLOCK_STEP)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError, OverflowError):
        return False
    except (psutil.AccessDenied, OSError, ValueError, IndexError):
        return True


def _boot_id() -> str:
    if sys.platform != "linux":
        return ""
    try:
        return _BOOT_ID.read_text(encoding="ascii").replace("-", "")[:8]
    except OSError:
        return ""


def _start_ticks(pid: int) -> int:
    """Return when a process was started, in clock ticks since the boot. Its command may have blanks and brackets."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[_START_FIELD])
