"""The standard streams: text in any encoding, on terminals and pipes, without encoding errors."""

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
    """Reopen closed streams, and let the others print characters that their encoding lacks.

    On Windows pipes and files get UTF-8, as on other systems, instead of the local code page, unless PYTHONIOENCODING
    names another encoding; a terminal keeps its own.
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
    """Return whether the stream is a terminal. A closed stream is not."""
    return not stream.closed and stream.isatty()


def read_stdin() -> str:
    """Read standard input to its end, in UTF-8, UTF-16 or the system's encoding; invalid bytes become U+FFFD.

    Raises RequestError where reading fails.
    """
    try:
        if not isinstance(sys.stdin, io.TextIOWrapper):
            return sys.stdin.read()
        return decode_input(sys.stdin.buffer.read(), sys.stdin.encoding).replace("\r\n", "\n")
    except OSError as exc:
        raise RequestError(
            f"standard input cannot be read: {exc.strerror or exc}", hint="pipe a text, or run it in a terminal"
        ) from exc


def decode_input(data: bytes, declared: str) -> str:
    """Decode piped bytes: by their byte order mark, as UTF-16 if they contain zeros, as UTF-8 if that is valid, and
    otherwise in the `declared` encoding."""
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
    """Return whether the stream is a terminal with ANSI escape sequences, not disabled by NO_COLOR or TERM=dumb.

    A Windows console is switched to them, if it supports them.
    """
    if not is_terminal(stream) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.platform != "win32" or _enable_ansi(stream)


def spell_out(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks: by ASCII ("..." for an ellipsis), or else an escape (`\\u4f60`).

    It is an error handler for `codecs.register_error`.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    spelled = []
    for char in error.object[error.start : error.end]:
        plain = unicodedata.normalize("NFKD", char)
        spelled.append(plain if plain.isascii() else char.encode("ascii", "backslashreplace").decode())
    return "".join(spelled), error.end


def _encoding(stream: io.TextIOWrapper) -> str | None:
    """Return the encoding to switch the stream to; None to keep its own."""
    if stream.isatty() or os.environ.get("PYTHONIOENCODING", "").partition(":")[0]:
        return None
    return "utf-8" if sys.platform == "win32" or codecs.lookup(stream.encoding).name == "ascii" else None


def _reopen_closed() -> None:
    """Reopen streams closed by `edge … <&-`, or the next file to be opened gets the stream's descriptor, and with it
    everything written to the stream."""
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free descriptor
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


if sys.platform == "win32":

    def _enable_ansi(stream: IO[str]) -> bool:
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

    def _enable_ansi(stream: IO[str]) -> bool:
        return True
