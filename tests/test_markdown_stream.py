"""Markdown that is drawn while it streams: in whatever pieces it comes, the screen ends as if it had come as a whole,
and nothing that has left the screen is written again."""

import io
import random
import re

import pytest

from edge.cli.markdown_stream import MarkdownStream, supports_markdown

TEXT = """# Title

A paragraph with **bold**, *em*, `code` and a [link](http://x.y/z).
Second line with \\(x_1 + y\\) and \\[ a \\], which is long enough to be wrapped at the width of this terminal.

1. one
2. two with <b>html</b>
   - nested `x`
3. three

```python
def f(x):
    # comment
    return x + 1
```

## Another

> a quote

| a | b |
|---|---|
| 1 | 2 |
| 3 | 4 |

![alt](http://pic/x.png)

---

你好，世界 🎉 <div>hello</div>
"""


class Screen(io.StringIO):
    """As much of a terminal as is needed: rows of characters without their styles. `lowest` is how far above the last
    row the cursor has been."""

    encoding = "utf-8"

    def __init__(self):
        super().__init__()
        self.rows, self.row, self.column, self.lowest, self.drawn = [""], 0, 0, 0, 0

    def write(self, text):
        for piece in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", text):
            if piece == "\r":
                self.column = 0
            elif piece == "\n":
                self.row, self.column = self.row + 1, 0
                self.rows += [""] * (self.row + 1 - len(self.rows))
            elif piece.endswith("A") and piece.startswith("\x1b"):
                self.row -= int(piece[2:-1])
                assert self.row >= 0
                self.lowest = max(self.lowest, len(self.rows) - 1 - self.row)
            elif piece == "\x1b[K":
                self.rows[self.row] = self.rows[self.row][: self.column]
            elif piece == "\x1b[J":
                self.rows[self.row] = self.rows[self.row][: self.column]
                del self.rows[self.row + 1 :]
            elif piece.startswith("\x1b"):
                assert piece.endswith("m"), piece
            else:
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + piece + line[self.column + len(piece) :]
                self.column += len(piece)
                self.drawn += len(piece)

    @property
    def shown(self):
        return [row.rstrip() for row in self.rows]


def drawn(text, pieces, size=(50, 40)):
    screen = Screen()
    stream = MarkdownStream(screen, size)
    for piece in pieces(text):
        stream._next_drawing = 0.0
        stream.write(piece)
    stream.finish()
    return screen


def whole(text):
    return [text]


def characters(text):
    return list(text)


def at_random(text):
    chance = random.Random(7)
    while text:
        count = chance.randint(1, 12)
        yield text[:count]
        text = text[count:]


def test_what_is_shown():
    shown = drawn(TEXT, whole).shown
    assert shown[:3] == ["Title", "", "A paragraph with bold, em, code and a link"]
    text = "\n".join(shown)
    for wanted in (
        "(http://x.y/z)",
        r"\(x_1 + y\) and \[ a \]",
        " 2 two with <b>html</b>",
        "    • nested x",
        "<div>hello",
    ):
        assert wanted in text
    assert "def f(x):\n    # comment\n    return x + 1" in text
    assert "[alt](http://pic/x.png)" in text
    assert re.search(r"a +b\n.*[─━].*\n +1 +2\n +3 +4", text)


@pytest.mark.parametrize("pieces", [characters, at_random])
@pytest.mark.parametrize("columns", [30, 50, 120])
def test_in_pieces_it_ends_as_in_one(pieces, columns):
    size = (columns, 40)
    assert drawn(TEXT, pieces, size).shown == drawn(TEXT, whole, size).shown


def test_a_block_that_is_taller_than_the_screen_only_grows():
    code = "```\n" + "".join(f"line {number}\n" for number in range(60)) + "```\n\nend\n"
    screen = drawn(code, at_random, (40, 10))
    assert screen.lowest < 10
    assert screen.shown == [*(f"line {number}" for number in range(60)), "", "end"]


def test_a_row_that_does_not_change_is_not_drawn_again():
    text = "word " * 400
    screen = drawn(text, lambda text: re.findall(r"\S+ ", text), (60, 40))
    assert screen.drawn < 40 * len(text)  # each piece draws a row again, not the paragraph
    assert screen.lowest <= 1


@pytest.mark.parametrize("text", ["a\x1b[2Jb\x9bc\x07", "[x](http://\x1b[31m)", "`\x1b]0;t\x07`"])
def test_control_characters_do_not_act(text):
    screen = Screen()
    plain = io.StringIO()
    for stream in (screen, plain):
        drawing = MarkdownStream(stream, (60, 20))
        drawing.write(text)
        drawing.finish()
    assert not re.search(r"\x1b(?!\[[0-9;]*[mKJA])|[\x07\x9b]", plain.getvalue())
    assert "�" in "".join(screen.shown) or "%EF%BF%BD" in "".join(screen.shown)


def test_only_a_terminal_has_it(monkeypatch):
    class Console(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert supports_markdown(Console())
    assert not supports_markdown(io.StringIO())
    monkeypatch.setattr(Console, "encoding", "cp1252")
    assert not supports_markdown(Console())
    monkeypatch.setattr(Console, "encoding", "utf-8")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not supports_markdown(Console())
