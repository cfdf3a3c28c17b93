"""Values of JSON: which are equal, and how they are written as constants."""

from collections.abc import Iterable
from typing import Any

from ..tree import COLON, COMMA, Node, literal, sequence, to_json


def canonical_value(value: Any) -> Any:
    """Return something hashable that is equal for equal values: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, bool) or value is None:
        return ("constant", value)
    if isinstance(value, int | float):
        return ("number", value)
    if isinstance(value, list):
        return ("array", tuple(map(canonical_value, value)))
    if isinstance(value, dict):
        return ("object", frozenset((name, canonical_value(item)) for name, item in value.items()))
    return value


def without(values: Iterable[Any], excluded: Iterable[Any]) -> list[Any]:
    """Return the values that are not among the excluded ones, each once."""
    found = dict.fromkeys(map(canonical_value, excluded))
    kept = []
    for value in values:
        if (canonical := canonical_value(value)) not in found:
            found[canonical] = None
            kept.append(value)
    return kept


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON."""
    return bool(canonical_value(one) == canonical_value(other))


def constant(value: Any) -> Node:
    """Return the value as a node; the members of an object in its own order."""
    if isinstance(value, dict):
        members = [sequence(literal(to_json(name)), COLON, constant(item)) for name, item in value.items()]
        return sequence(literal("{"), _joined(members), literal("}"))
    if isinstance(value, list):
        return sequence(literal("["), _joined([constant(item) for item in value]), literal("]"))
    return literal(to_json(value))


def _joined(nodes: list[Node]) -> Node:
    return sequence(*(part for index, node in enumerate(nodes) for part in ((COMMA, node) if index else (node,))))
