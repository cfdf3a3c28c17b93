"""The call syntaxes by the names under which families list them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..prompt.families import Family
from .call_syntax import CallSyntax
from .json_call import JsonCallSyntax
from .text_call import TextCallSyntax

_SYNTAXES: Mapping[str, Callable[[Family, Sequence[Mapping[str, Any]]], CallSyntax]] = {
    "json": JsonCallSyntax.create,
    "text": TextCallSyntax.create,
}


def create_syntaxes(family: Family, tools: Sequence[Mapping[str, Any]]) -> tuple[CallSyntax, ...]:
    """Return the family's syntaxes for these tools (JSON: name, description, parameters); () where there are none.

    Raises KeyError where the family names a syntax that is not in the table.
    """
    return tuple(_SYNTAXES[name](family, tools) for name in family.call_syntaxes) if tools or family.own_tools else ()
