"""Detecting a checkpoint's family from the prompt that its chat template renders for a probe."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ..chat_templates import ChatTemplates
from ..errors import CheckpointError
from ..messages import Message
from ..text import quoted
from .families import BASE, FAMILIES, PROBE, REASONING_MARKS, Family
from .template import ChatTemplate


def detect_family(config: Mapping[str, Any], templates: ChatTemplates | None) -> Family:
    """Return the family of a checkpoint, given its config.json and its chat templates (None for a base model).

    Raises CheckpointError if the model is not GLM-4, or if its template is of an unknown kind or leaves out the names
    of calls; TemplateError if the template is broken.
    """
    model_type = config.get("model_type")
    families = [family for family in FAMILIES.values() if model_type in family.model_types]
    if config.get("vision_config") is not None:
        families = [family for family in families if family.pictures is not None]
        if not families:
            raise CheckpointError(
                f"vision models of the type {quoted(model_type)} are not supported",
                hint="use glm-4v-9b, or a text model",
            )
    else:
        families = [family for family in families if family.pictures is None]
    if not families:
        known = sorted({name for family in FAMILIES.values() for name in family.model_types})
        raise CheckpointError(
            f"config.json names the model type {quoted(model_type)}, which is not GLM-4's",
            hint=f"supported model types: {', '.join(known)}",
        )
    if templates is None:
        return next((family for family in families if family.template), BASE)
    for family in families:
        template = ChatTemplate(templates, family, ())
        if family.matches("".join(template.render_text([Message("user", "?")], [PROBE]))):
            facts = template.facts(tools=True)
            if family.layout is None and facts.tools and not facts.calls:
                raise CheckpointError(
                    "the chat template shows tools, but no call of one in a chat's history",
                    hint="use the checkpoint's own chat template, or one that writes assistant messages as they are",
                )
            return family
    raise CheckpointError("the chat template is of an unknown kind", hint="use the checkpoint's own chat template")


def adapt_family(family: Family, templates: ChatTemplates | None, special_tokens: Collection[str] = ()) -> Family:
    """Return the family with what its checkpoint's templates and special tokens show: whether tools and system messages
    appear in a prompt, and the marks of reasoning. Raises TemplateError for a template that is not valid."""
    if family.layout is not None or templates is None:
        return family
    facts = ChatTemplate(templates, family, ()).facts(tools=True)
    pictures = family.pictures
    in_vocabulary = next((marks for marks in REASONING_MARKS if marks.open in special_tokens), None)
    return replace(
        family,
        tools=facts.tools and (pictures is None or pictures.tools),
        system=facts.system and (pictures is None or pictures.system),
        reasoning=facts.reasoning or family.reasoning or in_vocabulary,
        built_in=family.built_in if facts.layout.tools == "system_message" else (),
    )
