"""GLM-Edge 1.5B and 4B chat, and any other checkpoint whose template knows roles but no tools."""

from .family import Family, shows_the_probe
from .layout import tools_beside

GLM_EDGE = Family(
    name="glm_edge",
    summary="GLM-Edge: a chat without tools",
    model_types=("glm", "glm4", "chatglm"),
    recognise=lambda prompt: not shows_the_probe(prompt),
    layout=tools_beside,
    prefix="",
    tools=False,
)
