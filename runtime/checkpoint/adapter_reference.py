"""References to LoRA adapters as users write them: DIR, or DIR@WEIGHT."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checks import require_all
from ..errors import RequestError
from ..system.files import expand_user
from ..text import quoted


@dataclass(frozen=True, slots=True)
class AdapterReference:
    """An adapter's folder, and the weight by which its update is multiplied."""

    path: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> "AdapterReference":
        """Parse "FOLDER" or "FOLDER@WEIGHT". Raises RequestError for a weight that is not a finite number."""
        path, _, weight = os.fspath(text).rpartition("@")
        if not path or expand_user(text).exists():
            return cls(expand_user(text))
        try:
            value = float(weight)
        except ValueError:
            return cls(expand_user(text))
        if not math.isfinite(value):
            raise RequestError(
                f"the adapter {quoted(os.fspath(text))} has the weight {weight}",
                hint="write a finite number after the @, such as 0.5",
            )
        return cls(expand_user(path), value)


def adapter_list(adapter: object) -> tuple[str, ...]:
    """Return the argument `adapter` of the public API, a path or several, as a tuple of texts. Raises RequestError."""
    values = (adapter,) if isinstance(adapter, str | os.PathLike) else adapter
    require_all("adapter", values, str | os.PathLike, "a folder of a LoRA adapter, or a list of them")
    assert isinstance(values, Sequence)
    return tuple(os.fspath(value) for value in values)
