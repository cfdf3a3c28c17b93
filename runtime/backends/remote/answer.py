"""Validation of a server's responses: their size, their duration, their types, and the text of their errors."""

import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from ... import strict_json
from ...errors import BackendError
from ...events import FinishReason
from ...text import replace_controls

_QUOTED = 300  # characters of what a server says

_TOKEN_ID = re.compile(r"token_id:(\d{1,9})")


class LoggedToken(NamedTuple):
    """A token's id, its log-probability, and those of the most probable ids in its place."""

    id: int
    logprob: float
    top: dict[int, float]


class Chunk(NamedTuple):
    """A part of a reply: its text, the tokens so far where the server counts them, at the end why it ended, and the
    tokens of the text if they were asked for."""

    text: str
    total: int | None
    ended: FinishReason | None
    tokens: tuple[LoggedToken, ...] = ()


def limit_answer(answer: Any, url: str, most: int, seconds: float | None = None) -> None:
    """Make the response raise BackendError beyond `most` bytes, or if it has not ended after `seconds`."""
    import httpx2

    inner = answer.stream
    end = None if seconds is None else time.monotonic() + seconds
    encoding = answer.headers.get("Content-Encoding", "identity")

    class LimitedStream(httpx2.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            if encoding.strip().lower() != "identity":  # a few bytes may become gigabytes
                raise BackendError(f"{url} compresses its answers, unasked", hint="turn that off in the server")
            read = 0
            for piece in inner:
                read += len(piece)
                if read > most:
                    raise BackendError(f"{url} answers with more than {most:,} bytes", hint="see the server's log")
                if end is not None and time.monotonic() > end:
                    raise BackendError(f"{url} does not come to an end", hint="see the server's log")
                yield piece

        def close(self) -> None:
            inner.close()

    answer.stream = LimitedStream()


def read_chunk(data: str, url: str) -> Chunk:
    """Parse a server-sent event of a completion. Raises BackendError for an error that it reports, ValueError if it
    is not such an event."""
    chunk = _of(dict, strict_json.parse(data), "event")
    if chunk.get("error"):
        raise BackendError(f"{url} failed: {quoted_text(chunk)}", hint="see the server's log")
    choices = _of(list, chunk.get("choices") or [{}], "choices")
    if len(choices) != 1:
        raise ValueError(f"it sends {len(choices)} choices")
    choice = _of(dict, choices[0], "choice")
    usage = _of(dict, chunk.get("usage") or {}, "usage")
    reason = choice.get("finish_reason")
    ended: FinishReason | None = None if not reason else "length" if reason == "length" else "stop"
    text, count = _of(str, choice.get("text") or "", "text"), integer(usage.get("completion_tokens"), "token count")
    return Chunk(text, count, ended, _read_tokens(_of(dict, choice.get("logprobs") or {}, "logprobs")))


def _read_tokens(logprobs: dict[str, Any]) -> tuple[LoggedToken, ...]:
    """Parse the log-probabilities of a completion whose tokens are written as vLLM's "token_id:1"."""
    tokens = _of(list, logprobs.get("tokens") or [], "tokens")
    values = _of(list, logprobs.get("token_logprobs") or [], "token_logprobs")
    tops = _of(list, logprobs.get("top_logprobs") or [{}] * len(tokens), "top_logprobs")
    return tuple(
        LoggedToken(
            _token_id(token),
            _logprob(value),
            {_token_id(name): _logprob(other) for name, other in _of(dict, top or {}, "top_logprobs").items()},
        )
        for token, value, top in zip(tokens, values, tops, strict=True)
    )


def _token_id(name: Any) -> int:
    if not (found := _TOKEN_ID.fullmatch(_of(str, name, "token"))):
        raise ValueError(f"its token is {shortened(repr(name))}")
    return int(found[1])


def _logprob(value: Any) -> float:
    return float(_of(int | float, value, "logprob"))  # type: ignore[arg-type]


def integer(value: object, what: str) -> int | None:
    """Return a count, or None if there is none. Raises ValueError for anything but an integer from 0 on."""
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise ValueError(f"its {what} is {shortened(repr(value))}")
    return value


def rejection(answer: Any) -> tuple[str, str]:
    """Return the code and the parameter of a server's error, "" where it names none."""
    try:
        error = strict_json.parse(answer.content)["error"]
        return str(error.get("code") or ""), str(error.get("param") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def _of(kind: type[Any], value: Any, what: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"its {what} is {shortened(repr(value))}")
    return value


def error_of(answer: Any) -> str:
    """Return why a server rejected a request, and its status."""
    if elsewhere := answer.headers.get("Location"):
        return f"it redirects to {shortened(elsewhere)} ({answer.status_code})"
    try:
        return f"{quoted_text(strict_json.parse(answer.content))} ({answer.status_code})"
    except ValueError:
        return f"status {answer.status_code}"


def quoted_text(answer: Any) -> str:
    """Return the text of an error, as OpenAI or FastAPI wrap it, on one line."""
    found = answer.get("error") or answer.get("detail") or answer if isinstance(answer, dict) else answer
    if isinstance(found, dict):
        found = found.get("message") or found
    return shortened(str(found))


def shortened(text: str) -> str:
    """Return a text from the server for an error message: on one line, without control characters, truncated."""
    return replace_controls(" ".join(text[: 4 * _QUOTED].split()))[:_QUOTED]


def is_same_model(name: str, other: str) -> bool:
    """Whether two names are of one model, apart from an organization or folder before them and upper case."""
    return name.rsplit("/", maxsplit=1)[-1].lower() == other.rsplit("/", maxsplit=1)[-1].lower()
