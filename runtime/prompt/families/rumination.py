"""GLM-Z1-Rumination-32B-0414: its template has a system prompt and four tools of its own, and shows no others."""

from .family import Family, renders_probe
from .reasoning import ReasoningMarks

RUMINATION = Family(
    name="rumination",
    summary="GLM-Z1-Rumination: researches with search, click, open and finish",
    model_types=("glm4",),
    matches=lambda prompt: '"name": "finish"' in prompt and not renders_probe(prompt),
    reasoning=ReasoningMarks("<think>", "</think>", prompted=False),
    tools=False,
    own_tools=("search", "click", "open", "finish"),
    system=False,
)
