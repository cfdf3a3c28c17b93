"""Token ids become text as they stream, without splitting a character.

GLM-4's tokenizers are byte-level BPE: a token is a sequence of bytes, written in tokenizer.json with one printable
character for each byte (GPT-2's `bytes_to_unicode`).
"""

import codecs
from collections.abc import Iterable
from pathlib import Path

from . import strict_json
from .errors import ModelFolderError, RequestError
from .text import one_line


def byte_alphabet() -> dict[str, int]:
    """Return the character that stands for each byte, as in GPT-2's encoder.py."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class Vocabulary:
    """The bytes of every token."""

    def __init__(self, tokens: dict[int, bytes]) -> None:
        self._tokens = tokens

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read a tokenizer.json. Raises ModelFolderError if it is not a byte-level vocabulary."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ModelFolderError(
                f"{path} is not a byte-level vocabulary: {one_line(repr(exc))}", hint="convert the checkpoint again"
            ) from exc

    @classmethod
    def parse(cls, tokenizer_json: str) -> "Vocabulary":
        """Parse the text of a tokenizer.json that is known to be byte-level."""
        alphabet = byte_alphabet()
        data = strict_json.parse(tokenizer_json)
        tokens = {i: bytes(map(alphabet.__getitem__, token)) for token, i in data["model"]["vocab"].items()}
        return cls(tokens | {added["id"]: added["content"].encode() for added in data["added_tokens"]})

    def require_known(self, ids: Iterable[int]) -> None:
        """Raise RequestError for an id without a token."""
        if (unknown := next((id for id in ids if id not in self._tokens), None)) is not None:
            raise RequestError(f"there is no token {unknown}", hint="use token ids of this model's tokenizer")

    @property
    def longest(self) -> int:
        """The length of the longest token, in bytes."""
        return max(map(len, self._tokens.values()), default=1)

    def bytes_of(self, id: int) -> bytes:
        """Return the bytes of a token."""
        return self._tokens.get(id, b"")

    def decoder(self) -> "TextDecoder":
        """Return a decoder for one reply."""
        return TextDecoder(self._tokens)


class TextDecoder:
    """Decodes the ids of one reply. Bytes that are not valid UTF-8 become U+FFFD; ids without a token add nothing.

    The bytes of an incomplete character are kept until it is complete, and so are the ids of its tokens.
    """

    def __init__(self, tokens: dict[int, bytes]) -> None:
        self._tokens = tokens
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._ids: list[int] = []  # fed, and not taken yet

    def bytes_of(self, id: int) -> bytes:
        """Return the bytes of a token."""
        return self._tokens.get(id, b"")

    def feed(self, ids: Iterable[int]) -> str:
        """Return the characters that are complete with these ids."""
        new = tuple(ids)
        self._ids += new
        return self._utf8.decode(b"".join(self._tokens.get(i, b"") for i in new))

    def take_ids(self) -> tuple[int, ...]:
        """Return the ids fed since this last returned any; () while a character is incomplete."""
        if self._utf8.getstate()[0]:
            return ()
        taken, self._ids = tuple(self._ids), []
        return taken

    def finish(self) -> str:
        """Return what is left: U+FFFD for an incomplete character."""
        return self._utf8.decode(b"", final=True)
