"""Typed access to config.json."""

import reprlib
from collections.abc import Mapping
from typing import Any, cast

from ..errors import CheckpointError

CONFIG_HINT = "the checkpoint's config.json is damaged or was edited: download it again"


class ConfigObject:
    """Typed access to one JSON object of config.json, or of another `file`. Errors name the key."""

    def __init__(self, values: Mapping[str, Any], file: str = "config.json") -> None:
        self._values = values
        self._file = file

    def get(self, key: str) -> Any:
        """Return the value as it is; None if there is none."""
        return self._values.get(key)

    def integer(self, key: str, default: int | None = None) -> int:
        """Return the positive integer of a key, the default if it is null or absent. Raises CheckpointError."""
        value = default if self.get(key) is None else self.get(key)
        if type(value) is not int or not 1 <= value < 2**31:
            raise self._invalid(key, "a positive integer")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number from `low` to `high`, or the default for null. Raises CheckpointError."""
        value = default if self.get(key) is None else self.get(key)
        if type(value) not in (int, float) or not low <= cast(float, value) <= high:  # NaN fails the comparison
            raise self._invalid(key, f"a number from {low:g} to {high:g}")
        return float(cast(float, value))

    def boolean(self, key: str, default: bool) -> bool:
        """Return true or false, or the default for null. Raises CheckpointError."""
        value = default if self.get(key) is None else self.get(key)
        if type(value) is not bool:
            raise self._invalid(key, "true or false")
        return value

    def section(self, key: str) -> "ConfigObject":
        """Return an object, empty for null. Raises CheckpointError."""
        value = {} if self.get(key) is None else self.get(key)
        if not isinstance(value, dict):
            raise self._invalid(key, "an object")
        return ConfigObject(value, self._file)

    def require(self, key: str, wanted: Any) -> None:
        """Raise CheckpointError for a variant of the decoder that no released GLM-4 has."""
        if self.get(key) is not None and self.get(key) != wanted:
            raise self._invalid(
                key, f"{wanted!r}", hint="no released GLM-4 checkpoint differs here; it is not supported"
            )

    def _invalid(self, key: str, wanted: str, hint: str = CONFIG_HINT) -> CheckpointError:
        found = f"is {reprlib.repr(self.get(key))}" if key in self._values else "is missing"
        return CheckpointError(f"{self._file}: {key} {found}; it must be {wanted}", hint=hint)
