"""The prompt formats of GLM-4, a record each."""

from collections.abc import Mapping
from types import MappingProxyType

from ...errors import ModelFolderError
from ...text import quoted
from .base import BASE
from .family import PROBE, SPECIAL_TOKEN, Family, ReasoningMarks
from .glm4_0414 import GLM4_0414
from .glm4_2024 import GLM4_2024
from .glm_edge import GLM_EDGE
from .rumination import RUMINATION
from .z1 import Z1

# The more particular stand before those whose marks are fewer.
_FAMILIES = (Z1, RUMINATION, GLM4_0414, GLM4_2024, GLM_EDGE, BASE)

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _FAMILIES})


def get(name: str) -> Family:
    """The family of that name. Raises ModelFolderError where there is none."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise ModelFolderError(
            f"the prompt format {quoted(name)} is not known",
            hint="the folder was made by a later version: upgrade glm4-edge",
        ) from None


__all__ = ["BASE", "FAMILIES", "PROBE", "SPECIAL_TOKEN", "Family", "ReasoningMarks", "get"]
