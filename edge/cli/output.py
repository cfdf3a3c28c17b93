"""Text, tables and JSON on the standard streams, without control characters that could act on the terminal."""

import codecs
import json
import re
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from runtime.text import replace_controls

from .streams import is_terminal

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment
    from rich.table import Table

_UNBOUNDED_WIDTH = 10_000  # characters; wider than any table
_MIN_FOLDED_WIDTH = 16  # characters; a column is not folded below this


def print_text(text: str, *, end: str = "\n", file: IO[str] | None = None, flush: bool = False) -> None:
    """Print untrusted text. Control characters except tab and line feed become U+FFFD; CR LF becomes LF."""
    print(replace_controls(text.replace("\r\n", "\n")), end=end, file=file, flush=flush)


def print_json(value: Any) -> None:
    """Print a value as JSON, with escapes for non-ASCII characters unless the stream's encoding is a UTF."""
    utf = codecs.lookup(sys.stdout.encoding or "utf-8").name.startswith("utf")
    text = json.dumps(value, indent=2, ensure_ascii=not utf, allow_nan=False)
    print(re.sub(r"[\x7f-\x9f]", lambda match: f"\\u{ord(match[0]):04x}", text))  # json itself escapes those below 0x20


def print_table(table: "Table", *, may_drop: bool = False) -> None:
    """Print a table; into a pipe, at its full width.

    On a terminal that is too narrow the last column is folded or, if the table `may_drop` columns, the last ones are
    left out and named below. Other cells are never cut.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    width = console.width if is_terminal(sys.stdout) else _UNBOUNDED_WIDTH

    def wanted() -> int:
        return console.measure(table, options=console.options.update(width=_UNBOUNDED_WIDTH)).maximum

    dropped: list[str] = []
    while may_drop and len(table.columns) > 1 and wanted() > width:
        dropped.insert(0, " ".join(str(table.columns.pop().header).split()))
    first, *others = table.columns
    whole = wanted()
    for column in (first, *others[:-1]):
        column.no_wrap = True
    for column in others[-1:]:
        column.overflow, column.max_width = "fold", _MIN_FOLDED_WIDTH
    console.width = min(max(width, wanted()), whole)
    for column in others[-1:]:
        column.max_width = None
    console.print(_SanitizedTable(table), soft_wrap=console.width > width)
    if dropped:
        print(f"The terminal is too narrow for {', '.join(dropped)}; --json has them.")


class _SanitizedTable:
    """A table whose cells have no control characters."""

    def __init__(self, table: "Table") -> None:
        self._table = table

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Segment]":
        for segment in console.render(self._table, options):
            yield segment._replace(text=replace_controls(segment.text))
