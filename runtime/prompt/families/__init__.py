"""The families of GLM-4: a record for each prompt format.

A family is added as a module with its record and a line of _FAMILIES.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ...errors import ModelFolderError
from ...text import quoted
from .base import BASE
from .family import PROBE, SPECIAL_TOKEN, Family
from .glm4_0414 import GLM4_0414
from .glm4_1v import GLM4_1V
from .glm4_6v import GLM4_6V
from .glm4_2024 import GLM4_2024
from .glm4v import GLM4V
from .glm_edge import GLM_EDGE
from .reasoning import REASONING_MARKS, ReasoningMarks
from .rumination import RUMINATION
from .z1 import Z1

# In the order in which they are tried: a family whose `matches` is stricter comes first.
_FAMILIES = (GLM4V, GLM4_6V, GLM4_1V, Z1, RUMINATION, GLM4_0414, GLM4_2024, GLM_EDGE, BASE)

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _FAMILIES})


def get(name: str) -> Family:
    """Return the family with this name. Raises ModelFolderError if there is none."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise ModelFolderError(
            f"unknown prompt format {quoted(name)}",
            hint="the folder was made by a later version: upgrade glm4-edge",
        ) from None


__all__ = ["BASE", "FAMILIES", "PROBE", "REASONING_MARKS", "SPECIAL_TOKEN", "Family", "ReasoningMarks", "get"]
