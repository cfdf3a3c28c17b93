"""The journal of a conversion, by which an interrupted one resumes: `NAME.jsonl` beside each NAME.bin.

Its first line describes the job: what is converted, and how. Each further line is a finished weight: the offsets of its
bytes in the .bin, and the hash of the .bin up to their end, which is computed while writing. A line is written after
its bytes.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from runtime import strict_json
from runtime.system.files import write_atomically

_HASH_BLOCK = 2**24


def journal_path(weights: Path) -> Path:
    """Return the path of the journal of a .bin."""
    return weights.with_suffix(".jsonl")


class Digest(Protocol):
    """A running hash, as of hashlib."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Hash more bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the hash so far."""
        ...

    def copy(self) -> "Digest":
        """Return an independent copy."""
        ...


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes of one constant in the .bin."""

    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class FinishedWeight:
    """A finished weight: its constants by name, its end in the .bin, and the sha256 of the .bin up to there."""

    parts: dict[str, ByteRange]
    end: int
    sha256: str


class Journal:
    """The finished weights in the .bin, by name, and the `digest` of the .bin up to their end."""

    def __init__(self, path: Path, finished: dict[str, FinishedWeight], digest: Digest) -> None:
        self.finished, self.digest = finished, digest
        self._path = path

    @classmethod
    def open(cls, weights: Path, job: Mapping[str, Any]) -> "Journal":
        """Open the journal of this job for the .bin `weights`; discard the entries of another job, and those whose
        bytes are damaged.

        Reads the finished part of the .bin: about a second a gigabyte. Raises OSError.
        """
        path = journal_path(weights)
        header = json.dumps(job, sort_keys=True)
        finished: dict[str, FinishedWeight] = {}
        digest: Digest = sha256()
        if path.is_file() and weights.is_file():
            first, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            if first == header:
                with weights.open("rb") as file:
                    finished, digest = _read_intact(file, lines)
        lines = [header, *map(_to_line, finished.items())]
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
        return cls(path, finished, digest)

    @property
    def end(self) -> int:
        """Return the bytes of the .bin that are finished."""
        return max((weight.end for weight in self.finished.values()), default=0)

    def add(self, name: str, weight: FinishedWeight) -> None:
        """Append a finished weight."""
        self.finished[name] = weight
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_to_line((name, weight)) + "\n")


def _to_line(weight: tuple[str, FinishedWeight]) -> str:
    name, finished = weight
    return json.dumps({"weight": name} | asdict(finished))


def _read_intact(file: BinaryIO, lines: list[str]) -> tuple[dict[str, FinishedWeight], Digest]:
    """Return the weights up to the first whose bytes have changed, and the digest of those bytes: a power cut may have
    lost the rest."""
    found: dict[str, FinishedWeight] = {}
    digest: Digest = sha256()
    at, size = 0, os.fstat(file.fileno()).st_size
    for line in lines:
        try:
            value = strict_json.parse(line)
            name, weight = _parse_weight(value, at, size)
        except (ValueError, TypeError, KeyError, AttributeError):  # torn
            break
        further = _extend_digest(digest, file, weight.end - at)
        if further.hexdigest() != weight.sha256:
            break
        found[name], digest, at = weight, further, weight.end
    return found, digest


def _parse_weight(value: Any, begin: int, size: int) -> tuple[str, FinishedWeight]:
    """Return a line's weight. Raises ValueError, TypeError, KeyError or AttributeError for a malformed line, or if its
    bytes are not between `begin` and the `size` of the file."""
    parts = {name: ByteRange(**part) for name, part in value["parts"].items()}
    name, weight = value["weight"], FinishedWeight(parts, value["end"], value["sha256"])
    places = [number for part in parts.values() for number in (part.offset, part.nbytes)]
    if not all(type(number) is int and number >= 0 for number in (*places, weight.end)) or type(name) is not str:
        raise TypeError
    if not begin <= weight.end <= size or any(part.offset + part.nbytes > weight.end for part in parts.values()):
        raise ValueError
    return name, weight


def _extend_digest(digest: Digest, file: BinaryIO, nbytes: int) -> Digest:
    """Return a copy of the digest, extended by the next bytes of the file."""
    found = digest.copy()
    for first in range(0, nbytes, _HASH_BLOCK):
        found.update(file.read(min(_HASH_BLOCK, nbytes - first)))
    return found
