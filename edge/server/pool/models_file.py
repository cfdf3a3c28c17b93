"""The file of `--models-file`: the folders of the server's models by name, read again when it changes.

Beside it the server writes a report for the program that changed the file: which version of it is served, or why not.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from runtime import strict_json
from runtime.errors import RequestError
from runtime.system.files import read_bounded, write_atomically
from runtime.text import one_line

_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ServedReport:
    """What a server made of its models file: its process, the file's version, the folders that it serves, and the error
    and its cure where that version cannot be served."""

    pid: int
    version: str
    folders: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ModelsFile:
    """A models file, and the report beside it."""

    path: Path

    @property
    def report_path(self) -> Path:
        """The path of the server's report."""
        return self.path.with_name(f"{self.path.name}.served")

    def version(self) -> str:
        """Return what differs after each change of the file; "" while there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return ""
        return f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"

    def read(self) -> dict[str, str]:
        """Return the folders by name. Raises RequestError."""
        try:
            found = strict_json.parse(read_bounded(self.path, _MAX_BYTES))
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or one_line(exc)
            raise RequestError(
                f"{self.path} cannot be read: {reason}", hint='write {"NAME": "FOLDER"}, a JSON object'
            ) from exc
        if not isinstance(found, dict) or not found or not all(isinstance(one, str) for one in found.values()):
            raise RequestError(f"{self.path} is no table of folders", hint='write {"NAME": "FOLDER"}, a JSON object')
        return {name: str(self.path.parent / folder) for name, folder in found.items()}

    def write(self, folders: Mapping[str, str]) -> None:
        """Write the folders by name. Raises RequestError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(folders, indent=2, ensure_ascii=True)  # a path's own bytes are escaped, too
            write_atomically(self.path, f"{text}\n".encode(), private=True)
        except OSError as exc:
            raise RequestError(
                f"{self.path} cannot be written: {exc.strerror}", hint="make room, or check the folder's mode"
            ) from exc

    def remove(self) -> None:
        """Remove the file and the report."""
        for path in (self.path, self.report_path):
            path.unlink(missing_ok=True)

    def report(self, version: str, folders: Mapping[str, str], error: str = "", hint: str = "") -> None:
        """Write the report. Raises OSError."""
        found = ServedReport(os.getpid(), version, dict(folders), error, hint)
        write_atomically(self.report_path, json.dumps(asdict(found)).encode(), private=True)

    def read_report(self) -> ServedReport | None:
        """Return the report; None if there is none."""
        try:
            return ServedReport(**strict_json.parse(read_bounded(self.report_path, _MAX_BYTES)))
        except (OSError, ValueError, TypeError):
            return None
