"""Base models, such as glm-4-9b and GLM-4-32B-Base-0414: no chat template, completion only."""

from .family import Family

BASE = Family(
    name="base",
    summary="a base model: completion, no chat",
    model_types=("glm", "glm4", "chatglm"),
    matches=lambda prompt: False,
    tools=False,
)
