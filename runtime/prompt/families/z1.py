"""GLM-Z1-9B-0414 and GLM-Z1-32B-0414. Their template removes earlier reasoning by itself."""

from .family import Family
from .reasoning import ReasoningMarks

Z1 = Family(
    name="z1",
    summary="GLM-Z1-0414: thinks before it answers; the prompt opens the thought",
    model_types=("glm4",),
    matches=lambda prompt: prompt.rstrip().endswith("<think>"),
    reasoning=ReasoningMarks("<think>", "</think>", prompted=True),
)
