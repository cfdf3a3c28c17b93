"""The API keys that clients must send, from a file or from the environment."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from runtime.backends.remote.client import KEY
from runtime.errors import RequestError
from runtime.system.files import expand_user, read_bounded

MAX_BYTES = 2**20  # of a file


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key, and the name of whom it is given to."""

    secret: str = field(repr=False)
    name: str = ""


def read_api_keys(path: str | None) -> tuple[ApiKey, ...]:
    """Return the keys of the file or, without a path, the one of the environment, if it has one.

    A line of the file is a key, or NAME: KEY; blank lines and those that begin with # are ignored. A key without a name
    is called by its number. Raises RequestError for a file or a variable without a valid key.
    """
    if path is None:
        key = os.environ.get(KEY, "").strip()
        if not key.isascii():
            raise RequestError(f"the API key in {KEY} is not ASCII", hint="choose a key of ASCII characters")
        return (ApiKey(key, "1"),) if key else ()
    try:
        text = read_bounded(expand_user(path), MAX_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise RequestError(
            f"{path} cannot be read: {reason}", hint="pass a text file with an API key on each line"
        ) from exc
    keys = tuple(_parse_lines(path, text))
    if not keys:
        raise RequestError(f"{path} has no API key", hint="write the key on a line of its own")
    for what in ("name", "secret"):
        values = [getattr(key, what) for key in keys]
        if len({*values}) < len(values):
            double = "the same key twice" if what == "secret" else "two keys of one name"
            raise RequestError(f"{path} has {double}", hint="give each client a key and a name of its own")
    return keys


def _parse_lines(path: str, text: str) -> Iterator[ApiKey]:
    number = 0
    for at, line in enumerate(text.splitlines(), 1):
        name, colon, secret = (part.strip() for part in line.partition(": "))
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        number += 1
        if not colon:
            name, secret = str(number), name
        if not name or not secret or not secret.isascii() or any(char.isspace() for char in secret):
            raise RequestError(
                f"line {at} of {path} has no API key",
                hint="write a key in ASCII characters without spaces, or NAME: KEY; the others may be after a #",
            )
        yield ApiKey(secret, name)
