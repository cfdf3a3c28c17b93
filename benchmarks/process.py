"""Resource usage of processes, read from /proc (Linux only).

Anonymous memory cannot be reclaimed; pages of mapped files are reclaimed when the system needs them.
"""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_EVERY, _DISK_EVERY = 0.02, 0.2  # seconds


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """The resources that a command and its descendants used: wall and CPU seconds, peak anonymous memory, and the peak
    disk usage of its folder."""

    seconds: float
    cpu: float
    anonymous: int
    disk: int


def anonymous_memory(pid: int | str = "self") -> int:
    """Return the bytes of a process's anonymous memory; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)  # Linux has it since 4.5; a zombie has not
    return int(found[1]) * 1024 if found else 0


def forget_touched_pages(pid: int | str = "self") -> None:
    """Clear the referenced bits of a process's pages."""
    Path(f"/proc/{pid}/clear_refs").write_text("1")


def touched_file_pages(pid: int | str = "self") -> int:
    """Return the bytes of mapped files read since `forget_touched_pages`."""
    total, mapped = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            mapped = line.split()[4] != "0"  # an inode
        elif mapped and line.startswith("Referenced:"):
            total += int(line.split()[1]) * 1024
    return total


class PeakSampler:
    """The maximum of what `read` returns, sampled in a thread."""

    def __init__(self, read: Callable[[], int], every: float = _EVERY) -> None:
        self.value = 0
        self._read, self._every = read, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "PeakSampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.value = max(self.value, self._read())


def run_measured(commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str]) -> ResourceUsage:
    """Run the commands one after another, and return their total usage. Their output goes to `folder`.log.

    Raises CalledProcessError for the first that fails, with the end of its output.
    """
    cpu = 0.0
    running: list[int] = []
    log = folder.with_name(folder.name + ".log")
    start = time.perf_counter()
    with (
        log.open("wb") as out,
        PeakSampler(lambda: sum(anonymous_memory(pid) for root in running for pid in process_tree(root))) as memory,
        PeakSampler(lambda: disk_usage(folder), _DISK_EVERY) as disk,
    ):
        for command in commands:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment})
            running[:] = [process.pid]
            _, status, usage = os.wait4(process.pid, 0)
            running.clear()
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu += usage.ru_utime + usage.ru_stime
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, command, log.read_bytes()[-2000:])
    return ResourceUsage(time.perf_counter() - start, cpu, memory.value, max(disk.value, disk_usage(folder)))


def process_tree(pid: int) -> Iterator[int]:
    """Yield the process and all its descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in found:
            yield from process_tree(int(child))


def disk_usage(folder: Path) -> int:
    """Return the disk usage in bytes of the files below a folder; holes take none, and hard links count once."""
    found: dict[int, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.stat(os.path.join(parent, name), follow_symlinks=False)
            except FileNotFoundError:
                continue
            found[status.st_ino] = 512 * status.st_blocks
    return sum(found.values())
