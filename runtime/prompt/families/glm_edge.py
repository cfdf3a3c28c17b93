"""GLM-Edge 1.5B and 4B chat, and any other checkpoint whose template has roles but no tools."""

from .family import Family, renders_probe

GLM_EDGE = Family(
    name="glm_edge",
    summary="GLM-Edge: a chat without tools",
    model_types=("glm", "glm4", "chatglm"),
    matches=lambda prompt: not renders_probe(prompt),
    prefix="",
    tools=False,
)
