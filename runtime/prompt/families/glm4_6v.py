"""GLM-4.6V-Flash: pictures in questions and in the results of tools, which it calls in tags; it may think first.

Source: the chat template that GLM-OCR and GLM-4.6V share, which extends that of GLM-4.5 by pictures.
"""

from ...grammar.tags import KEY
from .family import Family, renders_probe
from .glm4_1v import PLACEHOLDER
from .picture_format import PictureFormat
from .reasoning import ReasoningMarks

GLM4_6V = Family(
    name="glm4_6v",
    summary="GLM-4.6V: pictures in questions and results; thinks; calls tools in tags",
    model_types=("glm4v",),
    matches=lambda prompt: renders_probe(prompt) and KEY in prompt,
    call_start="<tool_call>",
    call_syntaxes=("tagged",),
    reasoning=ReasoningMarks("<think>", "</think>"),
    pictures=PictureFormat(placeholder=PLACEHOLDER, roles=("user", "tool", "system")),
)
