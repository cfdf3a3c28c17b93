"""The form in which an engine on OpenVINO GenAI compiles what remains of a grammar."""

from ...grammar.grammar import Grammar
from ...grammar.rest import Rest


def engine_grammar(rest: Rest) -> Grammar:
    """Return what remains of a grammar as the engine compiles it. It may be wider."""
    raise NotImplementedError
