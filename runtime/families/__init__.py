"""The prompt formats of GLM-4, a record each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import CheckpointError, ModelFolderError
from .family import Family
from .glm4_0414 import GLM4_0414
from .glm4_2024 import GLM4_2024

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in (GLM4_0414, GLM4_2024)})

_BY_MODEL_TYPE = {"glm4": GLM4_0414, "glm": GLM4_2024, "chatglm": GLM4_2024}


def detect(config: Mapping[str, Any]) -> Family:
    """The family of a checkpoint, from its config.json. Raises CheckpointError where there is none."""
    model_type = config.get("model_type")
    family = _BY_MODEL_TYPE.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise CheckpointError(
            f"config.json names the model type {model_type!r}, which is not GLM-4's",
            hint=f"supported model types: {', '.join(_BY_MODEL_TYPE)}",
        )
    return family


def named(name: str) -> Family:
    """The family of that name. Raises ModelFolderError where there is none."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise ModelFolderError(
            f"the prompt format {name!r} is not known", hint="the folder was made by a later version: upgrade glm4-edge"
        ) from None


__all__ = ["FAMILIES", "Family", "detect", "named"]
