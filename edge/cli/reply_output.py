"""The output of a reply: its text, formatted or as it is, and dimmed lines between."""

import sys

from .cited_sources import CitedSources
from .markdown_stream import MarkdownStream, supports_markdown
from .output import print_text
from .streams import supports_ansi

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class ReplyOutput:
    """The lines of a reply on standard output, where reasoning and tool calls are dimmed. Its text is formatted if that
    is `markdown` and the terminal can show it. With `sources`, those that it cites are listed below it."""

    def __init__(self, *, markdown: bool = False, sources: CitedSources | None = None) -> None:
        self._sources = sources
        self._markdown = MarkdownStream() if markdown and supports_markdown(sys.stdout) else None
        self._dim, self._plain = (_DIM, _PLAIN) if supports_ansi(sys.stdout) else ("", "")
        self._dimmed = False
        self._at_line_start = True
        self._status = ""

    def write_status(self, text: str) -> None:
        """Write a dimmed line that the next output replaces; on a terminal without ANSI codes, only the first one."""
        self._finish_text()
        if self._dim:
            print(f"\r{self._dim}{text}{self._plain}\x1b[K", end="", flush=True)
        elif not self._status:
            print(text, flush=True)
        self._status = text

    def _clear_status(self) -> None:
        if self._status and self._dim:
            print("\r\x1b[K", end="", flush=True)
        self._status = ""

    def write(self, text: str, *, dim: bool = False) -> None:
        """Write text. A change between dimmed and plain begins a new line."""
        self._clear_status()
        if dim != self._dimmed:
            self._finish_text()
            self._dimmed = dim
            print(self._dim if dim else f"{self._plain}\n", end="")
        self._write(self._sources.read(text) if self._sources and not dim else text, dim=dim)

    def _write(self, text: str, *, dim: bool) -> None:
        if text and self._markdown and not dim:
            self._markdown.write(text)
            self._at_line_start = False
        elif text:
            print_text(text, end="", flush=True)
            self._at_line_start = text.endswith("\n")

    def _finish_text(self) -> None:
        if self._sources:
            self._write(self._sources.flush(), dim=False)
        if self._markdown:
            self._markdown.finish()

    def begin_line(self) -> None:
        """End the current line, if it has text."""
        self._finish_text()
        self._clear_status()
        if not self._at_line_start:
            print(flush=True)
        self._at_line_start = True

    def write_line(self, text: str) -> None:
        """Write a dimmed line of its own."""
        self.begin_line()
        print(self._plain if self._dimmed else "", end="")
        self._dimmed = False
        print(self._dim, end="")
        print_text(text, end="")
        print(self._plain, flush=True)

    def end(self) -> None:
        """End the reply, also one that was interrupted."""
        self._finish_text()
        self._clear_status()
        if self._sources and (listed := self._sources.describe()):
            self.write_line(listed)
        else:
            print(self._plain if self._dimmed else "")
