"""What a conversion has finished, so that one that was cut short can go on: `finished.jsonl` beside the .bin.

Its first line says what is being converted, and how; then comes a line for each weight, with where its bytes lie in the
.bin, and the hash of all of the .bin up to there, which is made while writing and in the end is the file's. A line is
written when its bytes are.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from runtime import strict_json

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

FILE = "finished.jsonl"
_HASH_CHUNK = 2**24


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of the .bin: those of one constant."""

    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A weight: its parts by their names, where the .bin ended with it, and the sha256 of the .bin up to there."""

    parts: dict[str, Part]
    end: int
    sha256: str


class Journal:
    """`finished` has every weight that is in the .bin, by its name; `digest` has read the .bin up to their end."""

    def __init__(self, path: Path, finished: dict[str, Finished], digest: "Digest") -> None:
        self.finished, self.digest = finished, digest
        self._path = path

    @classmethod
    def open(cls, folder: Path, job: Mapping[str, Any]) -> "Journal":
        """The journal of this job. What the folder holds of another job, or damaged, is forgotten and done again.

        Reads the finished part of the .bin: about a second a gigabyte. Raises OSError.
        """
        path = folder / FILE
        said = json.dumps(job, sort_keys=True)
        finished: dict[str, Finished] = {}
        digest = sha256()
        if path.is_file() and (weights := folder / "openvino_model.bin").is_file():
            first, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            if first == said:
                with weights.open("rb") as file:
                    finished, digest = _intact(file, lines)
        path.write_text("".join(f"{line}\n" for line in (said, *map(_line, finished.items()))), encoding="utf-8")
        return cls(path, finished, digest)

    @property
    def end(self) -> int:
        """Bytes of the .bin that are finished."""
        return max((weight.end for weight in self.finished.values()), default=0)

    def add(self, name: str, weight: Finished) -> None:
        self.finished[name] = weight
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line((name, weight)) + "\n")

    def remove(self) -> None:
        """The conversion has come to its end."""
        self._path.unlink()


def _line(weight: tuple[str, Finished]) -> str:
    name, finished = weight
    return json.dumps({"weight": name} | asdict(finished))


def _intact(file: BinaryIO, lines: list[str]) -> tuple[dict[str, Finished], "Digest"]:
    """The weights up to the first with which the bytes are not what they were, and the hash of those bytes: a power cut
    may have lost the rest."""
    found: dict[str, Finished] = {}
    digest, at, size = sha256(), 0, os.fstat(file.fileno()).st_size
    for line in lines:
        try:
            value = strict_json.parse(line)
            name, weight = _weight(value, at, size)
        except (ValueError, TypeError, KeyError, AttributeError):  # torn
            break
        further = _further(digest, file, weight.end - at)
        if further.hexdigest() != weight.sha256:
            break
        found[name], digest, at = weight, further, weight.end
    return found, digest


def _weight(value: Any, begin: int, size: int) -> tuple[str, Finished]:
    """A line's weight. Raises ValueError, TypeError, KeyError or AttributeError where it is none whose bytes lie from
    `begin` on, in a file of `size` bytes."""
    parts = {name: Part(**part) for name, part in value["parts"].items()}
    name, weight = value["weight"], Finished(parts, value["end"], value["sha256"])
    places = [number for part in parts.values() for number in (part.offset, part.nbytes)]
    if not all(type(number) is int and number >= 0 for number in (*places, weight.end)) or type(name) is not str:
        raise TypeError
    if not begin <= weight.end <= size or any(part.offset + part.nbytes > weight.end for part in parts.values()):
        raise ValueError
    return name, weight


def _further(digest: "Digest", file: BinaryIO, nbytes: int) -> "Digest":
    """Another one, which has read so many bytes more."""
    found = digest.copy()
    for first in range(0, nbytes, _HASH_CHUNK):
        found.update(file.read(min(_HASH_CHUNK, nbytes - first)))
    return found
