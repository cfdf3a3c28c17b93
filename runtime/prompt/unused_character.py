"""A character that occurs in no text of some values, as a mark for places in these texts."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import TemplateError

# Candidates: Unicode's noncharacters are for internal use, those of the private use area for anyone's.
_MARKS = [*range(0xFDD0, 0xFDF0), *range(0xE000, 0xF900)]
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")


def map_text(value: Any, change: Callable[[str], str]) -> Any:
    """Return the value with every text in its dicts, lists and tuples changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {map_text(key, change): map_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_text(item, change) for item in value]
    return value


def find_unused_character(variables: Mapping[str, Any]) -> str:
    """Return a character that is in no text of the values, neither as such nor as its JSON escape. Raises
    TemplateError."""
    texts: list[str] = []
    spelled: set[int] = set()

    def note(text: str) -> str:
        texts.append(text)
        spelled.update(int(code, 16) for code in _ESCAPED.findall(text))
        return text

    map_text(variables, note)
    for mark in _MARKS[:4]:  # a look for one is quick; a set of all characters takes ten times as long
        if mark not in spelled and not any(chr(mark) in text for text in texts):
            return chr(mark)
    used = spelled.union(*(map(ord, set(text)) for text in texts))
    if free := next((chr(mark) for mark in _MARKS if mark not in used), None):
        return free
    raise TemplateError("the messages use every private character of Unicode", hint="send text, not binary data")
