"""How large the body of a request may be."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The bytes that a body may have: by the path of its endpoint, and elsewhere."""

    default: int
    by_path: Mapping[str, int] = field(default_factory=dict)

    def get(self, path: str) -> int:
        """Return the limit at a path."""
        return self.by_path.get(path, self.default)

    @property
    def largest(self) -> int:
        """The limit of all bodies together, at any time."""
        return max(self.default, *self.by_path.values(), 0)
