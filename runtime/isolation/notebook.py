"""The cells of a notebook: code runs in one namespace, and its output, last value and plots are collected."""

import ast
import base64
import io
import linecache
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from types import CodeType, ModuleType
from typing import Any

CHARACTERS = 32_000  # of a cell's output
PICTURES = 8
_PICTURE_BYTES = 4_000_000
_MAGIC = re.compile(r"^%.*$", re.MULTILINE)  # such as %matplotlib inline


@dataclass(frozen=True, slots=True)
class CellOutput:
    """What a cell printed, and its pictures as PNG files in base64. `error` is whether it raised."""

    text: str
    pictures: list[str] = field(default_factory=list)
    error: bool = False


class _Output(io.TextIOBase):
    """Text, as much as a model may read; what follows is counted."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._left = CHARACTERS
        self._dropped = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._parts.append(text[: self._left])
        self._dropped += max(len(text) - self._left, 0)
        self._left -= min(len(text), self._left)
        return len(text)

    def text(self) -> str:
        note = f"\n[{self._dropped:,} further characters]" if self._dropped else ""
        return "".join(self._parts) + note


class Notebook:
    """A namespace in which cells run, one after the other."""

    def __init__(self) -> None:
        module = ModuleType("__main__")
        sys.modules["__main__"] = module
        self._names = module.__dict__
        self._count = 0
        warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive")

    def run(self, code: str) -> CellOutput:
        """Run a cell. Whatever it raises becomes part of the output."""
        self._count += 1
        name = f"<cell {self._count}>"
        output, pictures, error = _Output(), list[str](), False
        with redirect_stdout(output), redirect_stderr(output):
            try:
                self._run(code, name, pictures)
            except BaseException as exc:  # SystemExit as well  # noqa: BLE001
                error = True
                output.write(_describe(exc, name))
            try:
                pictures += _figures(PICTURES - len(pictures))
            except BaseException as exc:  # noqa: BLE001
                error = True
                output.write(_describe(exc, name))
        return CellOutput(output.text(), pictures, error)

    def _run(self, code: str, name: str, pictures: list[str]) -> None:
        tree = _parse(code, name)
        linecache.cache[name] = len(code), None, code.splitlines(keepends=True), name
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        self._execute(compile(tree, name, "exec"), exec)
        if isinstance(last, ast.Expr):
            value = self._execute(compile(ast.Expression(last.value), name, "eval"), eval)
            if value is not None:
                self._names["_"] = value
                _show(value, pictures)

    def _execute(self, code: CodeType, run: Callable[[CodeType, dict[str, Any]], Any]) -> Any:
        return run(code, self._names)


def _parse(code: str, name: str) -> ast.Module:
    try:
        return ast.parse(code, name)
    except SyntaxError:
        if not _MAGIC.search(code):
            raise
        return ast.parse(_MAGIC.sub("", code), name)


def _show(value: Any, pictures: list[str]) -> None:
    """Print a cell's last value as a notebook does, or keep its picture."""
    if callable(draw := getattr(value, "_repr_png_", None)) and not isinstance(value, type):
        png = draw()
        if isinstance(png, bytes) and len(png) <= _PICTURE_BYTES:
            pictures.append(base64.b64encode(png).decode())
            return
    print(repr(value))


def _figures(most: int) -> list[str]:
    """Return the open figures of matplotlib, and close them."""
    plots = sys.modules.get("matplotlib.pyplot")
    if plots is None:
        return []
    found = []
    for number in plots.get_fignums()[:most]:
        file = io.BytesIO()
        plots.figure(number).savefig(file, format="png", bbox_inches="tight")
        if file.tell() <= _PICTURE_BYTES:
            found.append(base64.b64encode(file.getvalue()).decode())
    plots.close("all")
    return found


def _describe(exc: BaseException, name: str) -> str:
    """Return the traceback from the cell on."""
    frame = exc.__traceback__
    while frame is not None and not frame.tb_frame.f_code.co_filename.startswith("<cell "):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(exc), exc, frame, limit=-20))
