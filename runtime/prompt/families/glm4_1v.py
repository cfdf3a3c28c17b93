"""GLM-4.1V-9B-Thinking: any number of pictures in questions; it thinks first, and marks its answer. No tools.

Source: the chat template of zai-org/GLM-4.1V-9B-Thinking, and its makers' code, which cuts answers out of their marks.
"""

from .family import Family
from .picture_format import PictureFormat
from .reasoning import ReasoningMarks

PLACEHOLDER = "<|image|>"  # between the tokens that begin and end a picture

GLM4_1V = Family(
    name="glm4_1v",
    summary="GLM-4.1V: pictures in questions; thinks before it answers; no tools",
    model_types=("glm4v",),
    matches=lambda prompt: True,
    reasoning=ReasoningMarks("<think>", "</think>", answer=("<answer>", "</answer>")),
    tools=False,
    pictures=PictureFormat(placeholder=PLACEHOLDER, tools=False),
)
