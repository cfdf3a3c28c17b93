"""The output of the system's programs as text, in whatever encoding they write into a pipe.

Programs of Windows, such as schtasks, write the OEM code page: cp850 in western Europe, cp936 in China. Python's own
choice there is the ANSI code page, in which German "ü" of cp850 is no character at all.
"""

import codecs
import errno
import locale
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """The exit code of a program, and what it wrote to its standard streams."""

    code: int
    output: str
    errors: str

    @property
    def first_line(self) -> str:
        """The first line of standard error, or of standard output if that is empty."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return lines[0].strip() if lines else f"status {self.code}"


def find_program(name: str, *, windows: bool = os.name == "nt") -> str | None:
    """Return the path of a program of the system, or one with a path; None if it is not there.

    On Windows it is looked for in System32 alone: a search begins with the current folder, where anybody may have put a
    program of that name.
    """
    if not windows or os.path.dirname(name):
        return shutil.which(name)
    path = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", f"{name}.exe")
    return path if os.path.isfile(path) else None


def run_program(
    command: Sequence[str],
    seconds: float = 60,
    *,
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> ProgramResult:
    """Run a program to its end, without a console window, in this process's folder and with its environment unless
    others are passed. Raises OSError if it cannot be run, and
    TimeoutError, an OSError, if it does not end within so many seconds."""
    command = _located(command)
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows; elsewhere there are no such flags
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=seconds,
            creationflags=flags,
            cwd=folder,
            env=variables,
        )
    except subprocess.TimeoutExpired as exc:
        raise TimeoutError(None, f"it did not end within {seconds:g} seconds") from exc
    return ProgramResult(done.returncode, decode_output(done.stdout), decode_output(done.stderr))


def _located(command: Sequence[str]) -> Sequence[str]:
    if (program := find_program(command[0])) is None:
        raise FileNotFoundError(errno.ENOENT, "it is not installed", command[0])
    return program, *command[1:]


def decode_output(data: bytes, code_page: str | None = None) -> str:
    """Decode a program's output: by its byte order mark, as UTF-8 if it is valid, and else in the system's code page
    for programs. Bytes that it lacks become U+FFFD."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _unify(data[len(mark) :].decode(encoding, "replace"))
    try:
        return _unify(data.decode())
    except UnicodeDecodeError:
        own = code_page or ("oem" if os.name == "nt" else locale.getencoding())
        return _unify(data.decode(own, "replace"))


def _unify(text: str) -> str:
    return text.replace("\r\n", "\n")
