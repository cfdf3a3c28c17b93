"""The call syntaxes by the names under which families list them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ...grammar.grammar import Grammar
from ...prompt.families import Family
from .call_syntax import CallSyntax
from .json_call import JsonCallSyntax, find_json_tools
from .nearby_calls import NearbyCalls
from .tagged_call import TaggedCallSyntax
from .text_call import TextCallSyntax

_SYNTAXES: Mapping[str, Callable[[Family, Sequence[Mapping[str, Any]]], CallSyntax]] = {
    "json": JsonCallSyntax.create,
    "text": TextCallSyntax.create,
    "tagged": TaggedCallSyntax.create,
}


def create_syntaxes(family: Family, tools: Sequence[Mapping[str, Any]]) -> tuple[CallSyntax, ...]:
    """Return the family's syntaxes for these tools (JSON: name, description, parameters); () where there are none.

    Raises KeyError where the family names a syntax that is not in the table.
    """
    return tuple(_SYNTAXES[name](family, tools) for name in family.call_syntaxes) if tools or family.own_tools else ()


def arguments_spelling(family: Family) -> Callable[[Grammar], Grammar]:
    """Return what turns a grammar of JSON arguments into that of arguments as the family's model writes them."""
    return _SYNTAXES[family.call_syntaxes[-1]](family, ()).grammar


def create_nearby(family: Family, tools: Sequence[Mapping[str, Any]]) -> Callable[[], NearbyCalls] | None:
    """Return what creates a recognizer of nearby calls to these tools; None for a family without GLM-4's own syntax."""
    names = find_json_tools(family, tools) if "json" in family.call_syntaxes else ()
    return partial(NearbyCalls, names, family.call_start) if names else None
