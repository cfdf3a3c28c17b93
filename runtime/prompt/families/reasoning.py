"""The marks around reasoning: those of GLM-Z1, and others that fine-tunes are trained with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReasoningMarks:
    """The marks around a model's reasoning. If `prompted`, the opening mark ends the prompt and is not in the reply.
    `answer` are the marks that some models write around what follows it; they are no part of it."""

    open: str
    close: str
    prompted: bool = False
    answer: tuple[str, str] | None = None


# In the order in which a chat template is tried with them.
REASONING_MARKS = tuple(
    ReasoningMarks(f"<{name}>", f"</{name}>") for name in ("think", "thinking", "thought", "reasoning")
)
