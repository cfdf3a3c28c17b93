"""The files of one folder: list and read them. Nothing outside of it is ever opened, whatever a link says."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from runtime.documents.encoding import decode
from runtime.documents.limits import UnreadableDocument
from runtime.errors import RequestError
from runtime.system.files import expand_user, read_bounded
from runtime.text import one_line, quoted, replace_surrogates
from runtime.tool_call import ToolFailure
from runtime.tools import Tool

MAX_BYTES = 1_000_000
_LINES = 1000
_CHARACTERS = 40_000
_ENTRIES = 500


class FolderFiles:
    """The files below a folder, for a model to read. Raises RequestError if there is no such folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        path = expand_user(folder)
        if not path.is_dir():
            raise RequestError(f"there is no folder {quoted(os.fspath(folder))}", hint="pass the path of a folder")
        self._root = path.resolve()

    def read_tool(self) -> Tool:
        """Return the tool read_file."""

        def read_file(path: str, first_line: int = 1) -> str:
            """Read a text file of the folder; a long one in parts.

            Args:
                path: the file's path as list_files shows it
                first_line: the number of the line to begin with
            """
            return self.read(path, first_line)

        return Tool.from_function(read_file)

    def list_tool(self) -> Tool:
        """Return the tool list_files."""

        def list_files(path: str = ".") -> str:
            """List the files of the folder, or of a folder in it, with their sizes.

            Args:
                path: the path of a folder in it
            """
            return self.list(path)

        return Tool.from_function(list_files)

    def read(self, path: str, first_line: int = 1) -> str:
        """Return lines of a text file. Raises ToolFailure."""
        found = self._find(path)
        text = self._read_text(found, path)
        lines = text.splitlines()
        if first_line < 1 or first_line > max(len(lines), 1):
            raise ToolFailure(f"{quoted(path)} has the lines 1 to {len(lines):,}")
        part = "\n".join(lines[first_line - 1 : first_line - 1 + _LINES])
        if len(part) > _CHARACTERS:
            part = part[:_CHARACTERS].rpartition("\n")[0] or part[:_CHARACTERS]
        last = first_line + part.count("\n")
        left = len(lines) - last
        return f"{part}\n[{left:,} further lines: read on from line {last + 1}]" if left > 0 else part

    def list(self, path: str = ".") -> str:
        """Return the entries of a folder, a line each. Raises ToolFailure."""
        found = self._find(path)
        if not found.is_dir():
            raise ToolFailure(f"{quoted(path)} is not a folder")
        entries = sorted(islice(self._entries(found), _ENTRIES + 1))
        more = f"\n[only the first {_ENTRIES} are shown]" if len(entries) > _ENTRIES else ""
        return ("\n".join(entries[:_ENTRIES]) or "The folder is empty.") + more

    def _entries(self, folder: Path) -> Iterator[str]:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(OSError, RuntimeError):  # a link in a circle, a file that is gone
                        yield from self._describe(entry)
        except OSError as exc:
            raise ToolFailure(f"the folder cannot be read: {exc.strerror}") from exc

    def _describe(self, entry: "os.DirEntry[str]") -> Iterator[str]:
        path = one_line(replace_surrogates(Path(entry.path).relative_to(self._root).as_posix()))
        if Path(entry.path).resolve(strict=True).is_relative_to(self._root):
            if entry.is_dir():
                yield f"{path}/"
            elif entry.is_file():
                yield f"{path} ({entry.stat().st_size:,} bytes)"

    def _find(self, path: str) -> Path:
        """Return the real path of a file or folder below the root."""
        given = Path(path.strip().replace("\\", "/"))
        if "\0" in path or given.is_absolute() or given.drive or ".." in given.parts:
            raise ToolFailure(f"{quoted(path)} is not a path in the folder; list_files shows them")
        try:
            found = (self._root / given).resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as exc:
            raise ToolFailure(f"there is no file {quoted(path)}; list_files shows them") from exc
        if not found.is_relative_to(self._root):
            raise ToolFailure(f"{quoted(path)} leads out of the folder")
        return found

    def _read_text(self, found: Path, path: str) -> str:
        name = quoted(path)
        try:
            text = decode(read_bounded(found, MAX_BYTES))
        except UnreadableDocument as exc:
            raise ToolFailure(f"{name} is not a text file") from exc
        except OSError as exc:
            if exc.errno == errno.EINVAL:  # a pipe or a device would be waited for
                raise ToolFailure(f"{name} is not a file") from exc
            if exc.errno == errno.EFBIG:
                raise ToolFailure(f"{name} is larger than {MAX_BYTES // 10**6} MB") from exc
            raise ToolFailure(f"{name} cannot be read: {exc.strerror}") from exc
        if "\0" in text:
            raise ToolFailure(f"{name} is not a text file")
        return replace_surrogates(text)
