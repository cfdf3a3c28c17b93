"""The tokens of texts, as the tokenizer IR of a folder makes them."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from ..errors import RequestError

_CHARACTERS = 20  # of a token, at most: a longer text is rejected before it is tokenized, which blocks Python
_LOCK = Lock()  # the first calls from several threads at once can deadlock


class TextTokens:
    """The tokenizer of a model that reads at most `max_tokens` tokens. Raises RuntimeError if the folder has none."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        import openvino_genai as genai

        self.max_tokens = max_tokens
        with _LOCK:
            self._tokenizer: Any = genai.Tokenizer(folder)

    def encode(self, text: str, *, truncate: bool = False, name: str = "the text") -> list[int]:
        """Return the ids of a text with its special tokens; cut to the limit with `truncate`. Raises RequestError for
        a text that is too long; `name` is what it is called."""
        if not truncate:
            self.require_characters(len(text), name)
        with _LOCK:
            found = self._tokenizer.encode([text[: self.max_tokens * _CHARACTERS]])
        ids = [int(token) for token in found.input_ids.data[0]]
        if len(ids) > self.max_tokens and truncate:
            return [*ids[: self.max_tokens - 1], ids[-1]]  # the last one ends the text
        self.require_length(len(ids), name)
        return ids

    def require_characters(self, count: int, name: str) -> None:
        """Raise RequestError if there are more characters than the tokens that the model reads can have."""
        if count > self.max_tokens * _CHARACTERS:
            raise RequestError(
                f"{name} has {count:,} characters, and the model reads at most {self.max_tokens:,} tokens",
                hint="split it into pieces",
            )

    def require_length(self, count: int, name: str) -> None:
        """Raise RequestError if there are more tokens than the model reads."""
        if count > self.max_tokens:
            raise RequestError(
                f"{name} has {count:,} tokens, and the model reads at most {self.max_tokens:,}",
                hint="split it into pieces",
            )


def batches(lengths: Sequence[int], *, texts: int = 32, tokens: int = 8192) -> list[list[int]]:
    """Group texts of similar lengths, so that a padded batch has at most so many texts, and so many tokens. Return the
    indices of each batch."""
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        last = found[-1] if found else []
        if not last or len(last) >= texts or (len(last) + 1) * lengths[index] > tokens:
            found.append([])
        found[-1].append(index)
    return found
