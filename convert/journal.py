"""What a conversion has finished, so that one that was cut short can go on: `finished.jsonl` beside the .bin.

Its first line says what is being converted, and how; then comes a line for each weight, with where its bytes lie in the
.bin and their hash. A line is written when its bytes are.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

FILE = "finished.jsonl"
_HASHED_AT_ONCE = 2**24


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of the .bin: those of one constant."""

    offset: int
    nbytes: int
    sha256: str


class Journal:
    """`finished` has the parts of every weight that is in the .bin, by the weight's name and their own."""

    def __init__(self, path: Path, finished: dict[str, dict[str, Part]]) -> None:
        self.finished = finished
        self._path = path

    @classmethod
    def open(cls, folder: Path, job: Mapping[str, Any]) -> "Journal":
        """The journal of this job. What the folder holds of another job, or damaged, is forgotten and done again.

        Reads the finished part of the .bin: about a second a gigabyte. Raises OSError.
        """
        path = folder / FILE
        said = json.dumps(job, sort_keys=True)
        finished = {}
        if path.is_file() and (weights := folder / "openvino_model.bin").is_file():
            first, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            if first == said:
                with weights.open("rb") as file:
                    finished = _intact(file, lines)
        path.write_text("".join(f"{line}\n" for line in (said, *map(_line, finished.items()))), encoding="utf-8")
        return cls(path, finished)

    @property
    def end(self) -> int:
        """Bytes of the .bin that are finished."""
        return max(
            (part.offset + part.nbytes for parts in self.finished.values() for part in parts.values()), default=0
        )

    def add(self, weight: str, parts: dict[str, Part]) -> None:
        self.finished[weight] = parts
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line((weight, parts)) + "\n")

    def remove(self) -> None:
        """The conversion has come to its end."""
        self._path.unlink()


def _line(weight: tuple[str, dict[str, Part]]) -> str:
    name, parts = weight
    return json.dumps({"weight": name, "parts": {name: asdict(part) for name, part in parts.items()}})


def _intact(file: BinaryIO, lines: list[str]) -> dict[str, dict[str, Part]]:
    """The weights whose bytes are what they were, up to the first that is not: a power cut may have lost the rest."""
    found = {}
    for line in lines:
        try:
            value = json.loads(line)
            parts = {name: Part(**part) for name, part in value["parts"].items()}
            name = value["weight"]
        except (ValueError, TypeError, KeyError):  # torn
            break
        if not all(_hash(file, part) == part.sha256 for part in parts.values()):
            break
        found[name] = parts
    return found


def _hash(file: BinaryIO, part: Part) -> str:
    digest = sha256()
    file.seek(part.offset)
    for first in range(0, part.nbytes, _HASHED_AT_ONCE):
        digest.update(file.read(min(_HASHED_AT_ONCE, part.nbytes - first)))
    return digest.hexdigest()
