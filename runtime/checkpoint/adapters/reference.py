"""References to LoRA adapters as users write them: DIR, or DIR@WEIGHT."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...checks import require_all
from ...errors import RequestError
from ...system.files import expand_user
from ...text import quoted


@dataclass(frozen=True, slots=True)
class AdapterReference:
    """An adapter's folder, absolute, and the weight by which its update is multiplied."""

    path: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, value: "AdapterLike") -> "AdapterReference":
        """Parse "DIR" or "DIR@WEIGHT"; a reference stays as it is. Raises RequestError for a weight that is not
        finite."""
        if isinstance(value, AdapterReference):
            return value
        text = os.fspath(value)
        path, _, digits = text.rpartition("@")
        try:
            weight = float(digits) if path and not expand_user(text).exists() else None
        except ValueError:
            weight = None
        if weight is None:
            return cls(expand_user(text).absolute())
        if not math.isfinite(weight):
            raise RequestError(
                f"the adapter {quoted(text)} has the weight {digits}",
                hint="write a finite number after the @, such as 0.5",
            )
        return cls(expand_user(path).absolute(), weight)

    def __str__(self) -> str:
        return self.path.name if self.weight == 1 else f"{self.path.name} @ {self.weight:g}"


AdapterLike = str | os.PathLike[str] | AdapterReference


def parse_adapters(adapters: AdapterLike | Sequence[AdapterLike]) -> tuple[AdapterReference, ...]:
    """Parse one adapter or several. Raises RequestError for a value that is no path, or a weight that is not finite."""
    kinds: Any = str | os.PathLike | AdapterReference
    values: Any = (adapters,) if isinstance(adapters, kinds) else adapters
    require_all("adapter", values, kinds, "the folder of a LoRA adapter, or a list of them")
    return tuple(map(AdapterReference.parse, values))
