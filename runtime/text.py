"""Text that comes from outside: surrogates, which no UTF-8 encodes, become characters or U+FFFD at the door.

They come as half an emoji out of a client's JSON, and as bytes that were no UTF-8 out of file names and arguments
(PEP 383). Behind the door every text can be tokenized, printed and sent.
"""

import re
import reprlib
from typing import Any

# What a backslash begins in JSON: a pair of surrogates, a lone one, or anything else.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ANY = re.compile(r"\\u[dD][89a-fA-F]")  # most texts have none, however many escapes they have


# All of Unicode's control characters but tab and line feed: terminals act on them, those above DEL included.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def replace_controls(text: str) -> str:
    """Return the text for a terminal: each control character but tab and line feed as U+FFFD."""
    return _CONTROLS.sub("\ufffd", text)


def replace_surrogates(text: str) -> str:
    """Return the text with paired surrogates as the character that they spell, and each lone one as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def one_line(text: object, limit: int = 300) -> str:
    """Return a text from outside as a line for a message: blanks for line breaks, U+FFFD for control characters and
    for those that turn the direction of writing, and no more than `limit` characters."""
    line = " ".join(replace_surrogates(str(text)[: 4 * limit]).split())
    line = _CONTROL.sub("\ufffd", line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def quoted(value: object, limit: int = 100) -> str:
    """Return a value from outside as Python spells it, for a message: no more than `limit` characters of it, and U+FFFD
    for those that cannot be printed."""
    if not isinstance(value, str):
        return one_line(reprlib.repr(value), limit)
    return repr("".join(char if char.isprintable() else "\ufffd" for char in one_line(value, limit)))


def replace_json_surrogates(text: str) -> str:
    """Return JSON text without lone surrogates, neither as such nor as escapes (`\\ud83d`). All else stays as it is."""
    text = replace_surrogates(text)
    if not _ANY.search(text):
        return text
    return _ESCAPE.sub(lambda match: r"\ufffd" if match[1] else match[0], text)


def replace_surrogates_within(value: Any) -> Any:
    """Return the value with every text in its dicts, lists and tuples without surrogates, their keys included."""
    match value:
        case str():
            return replace_surrogates(value)
        case dict():
            return {replace_surrogates_within(key): replace_surrogates_within(item) for key, item in value.items()}
        case list():
            return [replace_surrogates_within(item) for item in value]
        case tuple():
            return tuple(replace_surrogates_within(item) for item in value)
    return value
