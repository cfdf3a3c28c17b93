"""A text as sentences short enough to be spoken at once."""

import re

_END = re.compile(r"(?<=[.!?…;:])\s+|(?<=[。！？；：])|\n+")
_BREAK = re.compile(r"(?<=[,，、])\s*|\s+")


def split_sentences(text: str, limit: int) -> list[str]:
    """Return the sentences of a text that have a letter or a digit; one of more than `limit` characters is split at
    commas and blanks, or where it has none, after so many characters."""
    found: list[str] = []
    for sentence in _END.split(text):
        line = ""
        for part in _BREAK.split(sentence):
            for start in range(0, len(part), limit):
                piece = part[start : start + limit]
                joined = f"{line} {piece}" if line else piece
                if len(joined) > limit:
                    found.append(line)
                    joined = piece
                line = joined
        found.append(line)
    return [sentence for sentence in found if any(map(str.isalnum, sentence))]
