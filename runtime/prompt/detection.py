"""Detecting a checkpoint's family from the prompt that its chat template renders for a probe."""

from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError
from ..messages import Message
from ..text import quoted
from .families import BASE, FAMILIES, PROBE, Family
from .template import ChatTemplate


def detect_family(config: Mapping[str, Any], chat_template: str | None) -> Family:
    """Return the family of a checkpoint, given its config.json and its chat template (None for a base model).

    Raises CheckpointError if the model is not GLM-4 or the template is of an unknown kind, TemplateError if the
    template is broken.
    """
    model_type = config.get("model_type")
    families = [family for family in FAMILIES.values() if model_type in family.model_types]
    if not families:
        known = sorted({name for family in FAMILIES.values() for name in family.model_types})
        raise CheckpointError(
            f"config.json names the model type {quoted(model_type)}, which is not GLM-4's",
            hint=f"supported model types: {', '.join(known)}",
        )
    if chat_template is None:
        return BASE
    for family in families:
        if family.matches("".join(ChatTemplate(chat_template, family, ()).render([Message("user", "?")], [PROBE]))):
            return family
    raise CheckpointError("the chat template is of an unknown kind", hint="use the checkpoint's own chat template")
