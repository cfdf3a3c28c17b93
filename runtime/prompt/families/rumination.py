"""GLM-Z1-Rumination-32B-0414: its template brings a system prompt and four tools, and shows no others."""

from .family import Family, ReasoningMarks, shows_the_probe
from .layout import tools_beside

RUMINATION = Family(
    name="rumination",
    summary="GLM-Z1-Rumination: researches with search, click, open and finish",
    model_types=("glm4",),
    recognise=lambda prompt: '"name": "finish"' in prompt and not shows_the_probe(prompt),
    layout=tools_beside,
    reasoning=ReasoningMarks("<think>", "</think>", prompted=False),
    tools=False,
    own_tools=("search", "click", "open", "finish"),
    system=False,
)
