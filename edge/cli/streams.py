"""The standard streams: whatever a terminal or a pipe is, text goes in and out without a traceback."""

import codecs
import io
import locale
import os
import sys
import unicodedata
from typing import IO

from runtime.errors import RequestError

_ERROR_HANDLER = "edge"  # the name of the error handler
_BOMS = (  # those of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def prepare() -> None:
    """Open those streams that are closed, and let the others print what their encoding does not have.

    A pipe or file of Windows gets UTF-8, as that of other systems, and not the code page of the country, unless
    PYTHONIOENCODING names another encoding; a terminal keeps its own.
    """
    codecs.register_error(_ERROR_HANDLER, spell_out)
    _reopen_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            lenient = stream.errors in ("replace", "ignore", "xmlcharrefreplace", "namereplace")
            stream.reconfigure(encoding=_encoding(stream), errors=stream.errors if lenient else _ERROR_HANDLER)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")


def is_terminal(stream: IO[str]) -> bool:
    """Whether somebody watches. A stream that was closed since is no terminal."""
    return not stream.closed and stream.isatty()


def read_stdin() -> str:
    """Read standard input to its end: text in UTF-8, UTF-16 or the encoding of this system, and whatever else it is,
    with U+FFFD in the place of what cannot be read. Raises RequestError where the stream fails."""
    try:
        if not isinstance(sys.stdin, io.TextIOWrapper):
            return sys.stdin.read()
        return decode_input(sys.stdin.buffer.read(), sys.stdin.encoding).replace("\r\n", "\n")
    except OSError as exc:
        raise RequestError(
            f"standard input cannot be read: {exc.strerror or exc}", hint="pipe a text, or run it in a terminal"
        ) from exc


def decode_input(data: bytes, declared: str) -> str:
    """Return piped bytes as text: of the encoding that their byte order mark names, UTF-16 where they hold zeros, UTF-8
    where they are valid as such, and else of the encoding that is `declared`."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    if zeros := data.count(0):
        return data.decode("utf-16-le" if 2 * data[1::2].count(0) > zeros else "utf-16-be", "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        own = declared if codecs.lookup(declared).name != "utf-8" else locale.getencoding()
        return data.decode(own, "replace")


def supports_ansi(stream: IO[str]) -> bool:
    """Whether the stream is a terminal that dims text by escape sequences, and may: NO_COLOR and TERM=dumb forbid it.
    A console of Windows is switched to them; an old one has none."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.platform != "win32" or _switch_to_escapes(stream)


def spell_out(error: UnicodeError) -> tuple[str, int]:
    """The error handler: "..." for an ellipsis where the encoding has none, and escapes (`\\u4f60`) for the rest."""
    assert isinstance(error, UnicodeEncodeError)
    spelled = []
    for char in error.object[error.start : error.end]:
        plain = unicodedata.normalize("NFKD", char)
        spelled.append(plain if plain.isascii() else char.encode("ascii", "backslashreplace").decode())
    return "".join(spelled), error.end


def _encoding(stream: io.TextIOWrapper) -> str | None:
    """Another encoding for the stream; None where it keeps its own."""
    if stream.isatty() or os.environ.get("PYTHONIOENCODING", "").partition(":")[0]:
        return None
    return "utf-8" if sys.platform == "win32" or codecs.lookup(stream.encoding).name == "ascii" else None


def _reopen_closed() -> None:
    """`edge … <&-`: a file that is opened later would get the number of the closed stream, and all that is written to
    that stream."""
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


if sys.platform == "win32":

    def _switch_to_escapes(stream: IO[str]) -> bool:
        import ctypes
        import msvcrt

        console = ctypes.c_void_p(msvcrt.get_osfhandle(stream.fileno()))
        mode = ctypes.c_uint32()
        kernel = ctypes.windll.kernel32
        virtual_terminal = 4  # ENABLE_VIRTUAL_TERMINAL_PROCESSING
        return bool(
            kernel.GetConsoleMode(console, ctypes.byref(mode))
            and kernel.SetConsoleMode(console, mode.value | virtual_terminal)
        )

else:

    def _switch_to_escapes(stream: IO[str]) -> bool:
        return True
