"""Text, tables and JSON on the standard streams. What a model, a folder or a file says cannot act on the terminal."""

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

_UNBOUNDED_WIDTH = 10_000  # characters: wider than any table
_MIN_FOLDED_WIDTH = 16  # a column is folded to so many characters at least


def print_text(text: str, *, end: str = "\n", file: IO[str] | None = None, flush: bool = False) -> None:
    """Print text that may come from elsewhere, with U+FFFD for its control characters but tab and line feed. Before a
    line feed a carriage return is left out."""
    print(replace_controls(text.replace("\r\n", "\n")), end=end, file=file, flush=flush)


def print_json(value: Any) -> None:
    """Print the value as JSON: with every character as it is where the stream can hold all, and else with escapes."""
    utf = codecs.lookup(sys.stdout.encoding or "utf-8").name.startswith("utf")
    text = json.dumps(value, indent=2, ensure_ascii=not utf, allow_nan=False)
    print(re.sub(r"[\x7f-\x9f]", lambda match: f"\\u{ord(match[0]):04x}", text))  # json escapes those below itself


def print_table(table: "Table", *, may_drop: bool = False) -> None:
    """Print the table, in a pipe as wide as it is. In a terminal that is too narrow the last column is folded or, if
    the table `may_drop` columns, the last ones are left out by name. Never a part of a name."""
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
    """A table without the control characters of its cells."""

    def __init__(self, table: "Table") -> None:
        self._table = table

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Segment]":
        for segment in console.render(self._table, options):
            yield segment._replace(text=replace_controls(segment.text))
