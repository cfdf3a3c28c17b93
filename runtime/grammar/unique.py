"""Scalars that do not equal those seen before, for arrays whose items are unique."""

import json
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any

from .nodes import Either, Literal, Node, Numeral, Reference, Sequence, String
from .regular.language import minus, words
from .regular.numerals import without_values
from .tree import NOTHING, choice, numeral, string

_EXACT = Context(prec=1000)


def canonical(text: str) -> str:
    """Return JSON in a form that is the same for equal values."""
    return json.dumps(_plain(json.loads(text, parse_float=Decimal, parse_int=Decimal)), ensure_ascii=False)


def exclude(node: Node, seen: frozenset[str], rules: Mapping[str, Node]) -> Node:
    """Return the node of a scalar without the values seen, which are in canonical form."""
    match node:
        case Reference():
            return exclude(rules[node.rule], seen, rules)
        case Either():
            return choice(*(left for option in node.options if (left := exclude(option, seen, rules)) is not NOTHING))
        case Literal():
            return NOTHING if canonical(node.text) in seen else node
        case Numeral():
            numbers = [Decimal(json.loads(text)[0]) for text in seen if text.startswith("[")]
            return numeral(without_values(node.language, numbers)) if numbers else node
        case Sequence(items=(Literal(), String() as body)):
            texts = [json.loads(text) for text in seen if text.startswith('"')]
            language = minus(body.language, words(texts)) if texts else body.language
            return string(language, body.least, body.most)
    return node


def _plain(value: Any) -> Any:
    """Return a value of JSON with numbers in a form of their own."""
    if isinstance(value, Decimal):
        return [format(_EXACT.normalize(value), "f")]
    if isinstance(value, list):
        return {"": [_plain(item) for item in value]}
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    return value
