"""Fenced code blocks of Markdown, as a text streams in: what stands in one is quoted.

Source: CommonMark 0.31, section 4.5. Any indentation will do, since fences stand in lists and quotations, too.
"""

import re

_FENCE = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(`{3,}|~{3,})(.*)", re.DOTALL)
_LONGEST = 128  # characters of a line that are looked at


class CodeFence:
    """Tracks whether a text stands inside a fenced code block: `open` is True from the line after its first fence to
    the end of its last one."""

    def __init__(self) -> None:
        self._fence = ""  # that of the open block
        self._line = ""

    @property
    def open(self) -> bool:
        return bool(self._fence)

    def feed(self, text: str) -> None:
        """Read more of the text."""
        while True:
            line, newline, text = text.partition("\n")
            self._line += line[: _LONGEST - len(self._line)]
            if not newline:
                return
            self._end_line()

    def _end_line(self) -> None:
        found, self._line = _FENCE.match(self._line), ""
        if found is None:
            return
        fence, info = found[1], found[2]
        if not self._fence:
            self._fence = fence if fence[0] == "~" or "`" not in info else ""
        elif fence.startswith(self._fence) and not info.strip():
            self._fence = ""
