"""Values of JSON: which are equal, and how they are written as constants."""

from typing import Any

from ..nodes import Node
from ..tree import COLON, COMMA, choice, literal, sequence, to_json


def canonical_value(value: Any) -> Any:
    """Return something hashable that is equal for equal values: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, bool) or value is None:
        return ("constant", value)
    if isinstance(value, int | float):
        return ("number", value)  # in Python 1 is 1.0 as well
    if isinstance(value, list):
        return ("array", tuple(map(canonical_value, value)))
    if isinstance(value, dict):
        return ("object", frozenset((name, canonical_value(item)) for name, item in value.items()))
    return value


def constant(value: Any) -> Node:
    """Return the value as a node; the members of an object in its own order."""
    if isinstance(value, dict):
        members = [sequence(literal(to_json(name)), COLON, constant(item)) for name, item in value.items()]
        return sequence(literal("{"), _joined(members), literal("}"))
    if isinstance(value, list):
        return sequence(literal("["), _joined([constant(item) for item in value]), literal("]"))
    if isinstance(value, float) and value.is_integer():
        return choice(literal(to_json(value)), literal(format(value, ".0f")))  # 5.0 is 5
    return literal(to_json(value))


def _joined(nodes: list[Node]) -> Node:
    return sequence(*(part for index, node in enumerate(nodes) for part in ((COMMA, node) if index else (node,))))
