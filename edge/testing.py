"""A model for the tests of applications: its engine replies with the texts of a script, in milliseconds.

The prompts are those of GLM-4-0414's format, laid out by the template of the embedded checkpoint.

Example:
    import edge
    from edge.testing import Echo, echo_model

    def test_greeting():
        engine = Echo(["Hello!"])
        with edge.Chat(echo_model(engine)) as chat:
            assert chat.send("Hi").text == "Hello!"
        assert "Hi" in "".join(engine.requests[0].prompt)
"""

from runtime.backends.echo import Echo
from runtime.model import Model

from .demo import CHECKPOINT

__all__ = ["Echo", "echo_model"]


def echo_model(engine: Echo | None = None) -> Model:
    """Return a model that runs on `engine`: it replies with the texts of its script in turn, then with the length of
    the prompt."""
    return Model(CHECKPOINT, backend=engine or Echo())
