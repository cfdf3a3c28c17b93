"""Markdown on a terminal while it streams: each finished block stays as it is, and only the last one is drawn again.

Nothing above the last block is touched, so that the scrollback stays whole. Of the last block, only the rows that have
changed are written, each over the old one: it does not flicker.
"""

import re
import sys
import time
from collections.abc import Iterator
from functools import cache
from shutil import get_terminal_size
from typing import IO, TYPE_CHECKING, Any

from runtime.text import replace_controls

from .streams import supports_ansi

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token
    from rich.markdown import Markdown

_SHORTEST_PAUSE = 0.03  # seconds between two drawings
_PAUSES_PER_DRAWING = 4  # of the time that a drawing takes: a long block costs a fifth of a core at most
_MIN_WIDTH = 20  # columns
_MATH_BRACKETS = "()[]"
_TRAILING_BLANKS = re.compile(r" +((?:\x1b\[0m)?)$")
_INVISIBLE = re.compile(r"(?:\x1b\[[0-9;]*m| )*")
_MARKUP_ALONE = re.compile(r"[ \d\-=*_+>#|`~.)]+")  # the beginning of a line whose meaning is open yet


def supports_markdown(stream: IO[str]) -> bool:
    """Return whether Markdown can be drawn: on a terminal with ANSI escape sequences and a UTF encoding."""
    encoding = getattr(stream, "encoding", None) or ""
    return supports_ansi(stream) and encoding.lower().startswith("utf")


class MarkdownStream:
    """The drawing of a text in Markdown, written piece by piece to a terminal."""

    def __init__(self, stream: IO[str] | None = None, size: tuple[int, int] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._fixed_size = size
        self._width, self._height = self._measure()
        self._text = ""  # from the beginning of the last block
        self._rows: list[str] = []  # of that block, as they are on the screen
        self._gap = ""  # to write before that block
        self._next_drawing = 0.0

    def write(self, text: str) -> None:
        """Add text. It is drawn now, or with the next piece if the last drawing was a moment ago."""
        self._text += replace_controls(text.replace("\r\n", "\n")).expandtabs(4)
        began = time.monotonic()
        if began < self._next_drawing:
            return
        end = self._text.rfind("\n") + 1
        self._draw(self._text[:end] if _MARKUP_ALONE.fullmatch(self._text, end) else self._text)
        self._settle()
        took = time.monotonic() - began
        self._next_drawing = began + took + max(_SHORTEST_PAUSE, _PAUSES_PER_DRAWING * took)

    def finish(self) -> None:
        """Draw all that was added, and begin anew. The cursor stays behind the last character."""
        self._draw(self._text)
        self._text, self._rows, self._gap = "", [], ""
        self._width, self._height = self._measure()

    def _measure(self) -> tuple[int, int]:
        columns, lines = self._fixed_size or get_terminal_size()
        return max(columns - 1, _MIN_WIDTH), max(lines, 2)

    def _settle(self) -> None:
        """Leave all blocks but the last one of the complete lines as they are drawn."""
        complete = self._text[: self._text.rfind("\n") + 1]
        starts = [token.map[0] for token in _parser().parse(complete) if token.level == 0 and token.map]
        if not starts or not (last := max(starts)):
            return
        end = sum(len(line) + 1 for line in complete.split("\n")[:last])
        settled = self._render(self._text[:end])
        if self._rows[: len(settled)] != settled:  # the last drawing was without the line that changes them
            self._draw(self._text[:end])
        self._gap = "\n\n" if settled else self._gap
        self._text, self._rows = self._text[end:], self._rows[len(settled) + 1 :]

    def _draw(self, text: str) -> None:
        """Draw the last block, of which `text` is the source, over what is shown of it."""
        rows = self._render(text)
        if rows == self._rows:
            return
        if not self._rows:
            self._stream.write(self._gap + "\n".join(rows))
        else:
            self._stream.write(self._changes(rows))
        self._rows = rows
        self._stream.flush()

    def _changes(self, rows: list[str]) -> str:
        """Return what turns the rows on the screen into these. Rows that have left the screen stay as they were."""
        shown = len(self._rows)
        first = next((i for i, (old, new) in enumerate(zip(self._rows, rows, strict=False)) if old != new), None)
        if first is None:
            first = min(shown, len(rows))
        if first == shown:
            return "".join(f"\n{row}" for row in rows[first:])
        first = max(first, shown - self._height)
        up = shown - 1 - first
        moved = f"\r\x1b[{up}A" if up else "\r"
        rest = rows[first:] or [""]
        text = "\n".join(f"{row}\x1b[K" for row in rest)
        return moved + text + ("\x1b[J" if len(rows) < shown else "")

    def _render(self, text: str) -> list[str]:
        from rich.console import Console

        console = Console(
            file=self._stream,
            force_terminal=True,
            width=self._width,
            legacy_windows=False,
            highlight=False,
            emoji=False,
        )
        blocks = []
        for tokens in _blocks(text):
            with console.capture() as captured:
                console.print(_to_markdown(tokens))
            rows = [_TRAILING_BLANKS.sub(r"\1", row) for row in captured.get().split("\n")]
            visible = [index for index, row in enumerate(rows) if not _INVISIBLE.fullmatch(row)]
            if visible:
                blocks.append(rows[visible[0] : visible[-1] + 1])
        return [row for block in blocks for row in ("", *block)][1:]


def _blocks(text: str) -> "Iterator[list[Token]]":
    """Yield the tokens of each block that is in no other one."""
    block = []
    for token in _parser().parse(text):
        block.append(token)
        if token.level == 0 and token.nesting <= 0:
            yield block
            block = []


@cache
def _parser() -> "MarkdownIt":
    """Return a parser that shows HTML as text, and the brackets of formulas as they are."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    parser.inline.ruler.before("escape", "formula", _keep_math_bracket)
    return parser


def _keep_math_bracket(state: "StateInline", silent: bool) -> bool:
    r"""Keep the backslash of \( and \[: a rule of markdown-it."""
    if state.src[state.pos] != "\\" or state.src[state.pos + 1 : state.pos + 2] not in tuple(_MATH_BRACKETS):
        return False
    if not silent:
        state.pending += state.src[state.pos : state.pos + 2]
    state.pos += 2
    return True


def _to_markdown(tokens: "list[Token]") -> "Markdown":
    from rich.markdown import CodeBlock, Heading, ImageItem, Markdown
    from rich.syntax import Syntax
    from rich.text import Text

    class LeftHeading(Heading):
        """A heading without a frame."""

        def __rich_console__(self, console: Any, options: Any) -> Any:
            self.text.justify = "left"
            self.text.stylize("bold underline" if self.tag == "h1" else "bold")
            yield self.text

    class PlainCode(CodeBlock):
        """Code without a background or a margin, to be copied from."""

        def __rich_console__(self, console: Any, options: Any) -> Any:
            code = str(self.text).rstrip("\n")
            yield Syntax(code, self.lexer_name, theme="ansi_dark", word_wrap=True, background_color="default")

    class PlainImage(ImageItem):
        """A picture as its text and address: nothing is loaded."""

        def __rich_console__(self, console: Any, options: Any) -> Any:
            yield Text(f"[{self.text.plain}]({self.destination})", end="")

    found = Markdown("", hyperlinks=False)
    elements = {
        **Markdown.elements,
        "heading_open": LeftHeading,
        "fence": PlainCode,
        "code_block": PlainCode,
        "image": PlainImage,
    }
    found.elements = elements  # type: ignore[misc]
    found.parsed = tokens
    for token in found.parsed:
        for child in token.children or ():
            if child.type == "softbreak":  # a line break of the model's is meant
                child.type = "hardbreak"
    return found
