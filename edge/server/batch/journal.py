"""The output file of `edge batch`, and its journal: what an interrupted run has answered is not run again.

Each result is appended to OUT.partial as one line. The output appears under its own name when every request has a
result, in the order of the requests, and the journal is removed.
"""

import json
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runtime.errors import RequestError
from runtime.system.files import is_plain_file, rename_over
from runtime.text import quoted

from .request_file import BatchRequest, InvalidLine
from .results import BatchResult, invalid_line

_LOCKED_BYTE = 2**40  # beyond any journal: on Windows others cannot read a byte that is locked


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of a result's line."""

    file: IO[bytes]
    offset: int
    size: int
    succeeded: bool


class ResultJournal:
    """The results of earlier runs, and those of this one as they are appended.

    One process at a time may use the journal of an output file. Raises RequestError if another one does, or if a file
    under either name is not of `edge batch`.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._path = output.with_name(f"{output.name}.partial")
        self._places: dict[str, _Place] = {}
        self._custom_ids: list[str] = []  # of the output file
        for path in (output, self._path):
            if path.exists() and not is_plain_file(path):
                raise RequestError(f"{path} is not a regular file", hint="choose another name for the output")
        self._opened = ExitStack()
        try:
            self._journal = self._opened.enter_context(self._path.open("a+b"))
        except OSError as exc:
            raise RequestError(f"{self._path} cannot be written: {exc.strerror}", hint="choose another folder") from exc
        try:
            if not _lock(self._journal):
                raise RequestError(f"another `edge batch` writes {output}", hint="wait for it, or choose another name")
            if output.exists():
                self._read(self._opened.enter_context(output.open("rb")), output)
            self._journal.seek(0)
            self._read(self._journal, self._path)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files. A journal without a result is removed."""
        is_empty = not self._journal.closed and self._journal.seek(0, os.SEEK_END) == 0
        self._opened.close()
        if is_empty:
            self._path.unlink(missing_ok=True)

    def unanswered(self, requests: Sequence[BatchRequest]) -> list[BatchRequest]:
        """Return the requests without a result, and those that failed. Raises RequestError if the output file has
        results of other requests."""
        known = {request.custom_id for request in requests}
        if foreign := next((name for name in self._custom_ids if name not in known), None):
            raise RequestError(
                f"{self._output} has results of other requests, such as {quoted(foreign)}",
                hint="choose another name for the output, or delete that file",
            )
        places = self._places
        return [one for one in requests if one.id not in places or not places[one.id].succeeded]

    def append(self, result: BatchResult) -> None:
        """Append a result. It is on the disk when this returns."""
        line = result.to_line()
        offset = self._journal.seek(0, os.SEEK_END)
        self._journal.write(line)
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._places[result.request.id] = _Place(self._journal, offset, len(line), result.succeeded)

    def write_output(self, requests: Sequence[BatchRequest], invalid: Sequence[InvalidLine]) -> None:
        """Write the output file, remove the journal, and close the files. The output has a line for each request and
        for each line that is none, in their order."""
        entries: list[BatchRequest | InvalidLine] = [*requests, *invalid]
        scratch = self._output.with_name(f".{self._output.name}.{secrets.token_hex(8)}")
        try:
            with scratch.open("xb") as file:
                for entry in sorted(entries, key=lambda entry: entry.line):
                    file.write(invalid_line(entry) if isinstance(entry, InvalidLine) else self._line(entry))
                file.flush()
                os.fsync(file.fileno())
            self._opened.close()  # Windows replaces no file that is open
            rename_over(scratch, self._output)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        self._path.unlink(missing_ok=True)

    def _line(self, request: BatchRequest) -> bytes:
        place = self._places[request.id]
        place.file.seek(place.offset)
        return place.file.read(place.size)

    def _read(self, file: IO[bytes], path: Path) -> None:
        """Read the lines of earlier runs. A half-written last line is removed from the journal."""
        offset = 0
        for line in file:
            if not line.endswith(b"\n") and file is self._journal:
                file.truncate(offset)
                return
            try:
                value = json.loads(line)
                id, custom_id, response = value["id"], value["custom_id"], value["response"]
                succeeded = response is not None and response["status_code"] == 200
            except (ValueError, TypeError, KeyError) as exc:
                raise RequestError(
                    f"{path} exists, and is not an output of `edge batch`",
                    hint="choose another name for the output, or delete that file",
                ) from exc
            if custom_id is not None and file is not self._journal:
                self._custom_ids.append(custom_id)
            self._places[id] = _Place(file, offset, len(line), succeeded)
            offset += len(line)


def _lock(file: IO[bytes]) -> bool:
    """Lock the file until it is closed. Returns whether no other process has locked it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
