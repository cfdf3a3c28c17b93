"""Lines of the server's log for a report: what happened and when, without names and without anybody's words.

A line is not edited but made anew from what is known in it: a request's method, endpoint, status and times, a model's
loading, the types of exceptions, and places in our own code. Of everything else, only its length is told.
"""

import builtins
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from runtime import errors
from runtime.system.files import is_plain_file, read_bounded

LINES = 200  # of the end of a log
_MAX_BYTES = 64 << 20
_ROOT = Path(__file__).resolve().parents[2]  # the folder of our packages
_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} (.*)", re.DOTALL)
_REQUEST = re.compile(
    r"\b(GET|POST|PUT|DELETE|HEAD|OPTIONS|PATCH) (/.*) (\d{3}) (\d+ ms(?:, first token after \d+ ms)?)"
    r"(?:, (?:(client disconnected)|([a-z_]+)))?, id [!-~]*"
)
_LOADING = re.compile(
    r".* is (being loaded|loaded, after [\d.]+ s|unloaded): ?.*|.* is (being loaded|loaded, after [\d.]+ s)"
)
_PLACE = re.compile(r'((?:edge|convert|runtime)(?:[\\/]\w+)+\.py)", line (\d+)')
_TYPE = re.compile(r"\b\w+\b")
_TYPES = {
    name
    for module in (builtins, errors)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
# Segments of the server's own paths; any other may be a name that somebody chose.
_SEGMENTS = frozenset(
    "v1 api chat completions responses messages count_tokens files content batches cancel embeddings rerank models "
    "conversations items input_items compact tokenize detokenize generate embed show tags ps version health ready "
    "metrics openapi.json".split()
)


def last_lines(log: Path) -> list[str]:
    """Return the last lines of a log file, reduced; none if it cannot be read."""
    try:
        data = read_bounded(log, _MAX_BYTES) if is_plain_file(log) else b""
    except OSError:
        return []
    return list(reduce_lines(data.decode("utf-8", "replace").splitlines()[-LINES:]))


def reduce_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield what is known in each line."""
    for line in lines:
        stamped = _TIME.fullmatch(line)
        time, text = (f"{stamped[1]} ", stamped[2]) if stamped else ("", line)
        yield f"{time}{_reduce(text)}"


def _reduce(text: str) -> str:
    if found := _REQUEST.search(text):
        method, path, status, times, gone, error = found.groups()
        return ", ".join(filter(None, (f"{method} {_endpoint(path)} {status} {times}", gone, error)))
    if found := _LOADING.fullmatch(text):
        return f"a model is {found[1] or found[2]}"
    known = [f"{place.replace(chr(92), '/')}:{line}" for place, line in _PLACE.findall(text) if _is_ours(place)]
    known += dict.fromkeys(word for word in _TYPE.findall(text) if word in _TYPES)
    return " ".join((*known, f"({len(text):,} characters)"))


def _endpoint(path: str) -> str:
    return "/".join(segment if segment in _SEGMENTS or not segment else "…" for segment in path.split("/"))


def _is_ours(place: str) -> bool:
    return (_ROOT / place.replace("\\", "/")).is_file()
