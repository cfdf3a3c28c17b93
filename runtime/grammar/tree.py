"""A grammar as a tree: nodes put together. Rules have names, so that a tree can refer to itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .interning import intern
from .nodes import Blank, Delimited, Either, Literal, Node, Numeral, Raw, Reference, Repeat, Sequence, String
from .regular.automaton import automaton
from .regular.charset import single
from .regular.language import Language, chars


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A grammar: its root, and the rules to which nodes refer."""

    root: Node
    rules: Mapping[str, Node]


EMPTY: Node = intern(Sequence, ())
NOTHING: Node = intern(Either, ())


def literal(text: str) -> Node:
    """This text."""
    return intern(Literal, text) if text else EMPTY


def sequence(*items: Node) -> Node:
    """One after another. Literals beside each other become one."""
    flat: list[Node] = []
    for item in items:
        for part in item.items if isinstance(item, Sequence) else (item,):
            if part is NOTHING:
                return NOTHING
            if isinstance(part, Literal) and flat and isinstance(before := flat[-1], Literal):
                flat[-1] = literal(before.text + part.text)
            else:
                flat.append(part)
    return flat[0] if len(flat) == 1 else intern(Sequence, tuple(flat))


def choice(*options: Node) -> Node:
    """Any one of them, each once."""
    flat: dict[Node, None] = {}
    for option in options:
        for part in option.options if isinstance(option, Either) else (option,):
            flat[part] = None
    return next(iter(flat)) if len(flat) == 1 else intern(Either, tuple(flat))


def repeated(item: Node, least: int, most: int | None) -> Node:
    """The item from `least` to `most` times; None: without end."""
    if most == 0 or item is EMPTY:
        return EMPTY
    if item is NOTHING:
        return NOTHING if least else EMPTY
    return item if least == most == 1 else intern(Repeat, item, least, most)


def reference(rule: str) -> Node:
    """What the rule of this name describes."""
    return intern(Reference, rule)


def raw(language: Language) -> Node:
    """A text of the language. Raises RequestError for one with too many states."""
    return intern(Raw, language) if automaton(language) else NOTHING


def delimited(language: Language) -> Node:
    """A text of the language, whose texts end with the tag that closes an argument. Raises RequestError for one with
    too many states."""
    return intern(Delimited, language) if automaton(language) else NOTHING


def numeral(language: Language) -> Node:
    """A number whose text is of the language. Raises RequestError for one with too many states."""
    return intern(Numeral, language) if automaton(language) else NOTHING


def string(language: Language, least: int = 0, most: int | None = None) -> Node:
    """A JSON string of a text of the language with from `least` to `most` characters. A `least` number may be given
    with the language of every text only. Raises RequestError for a language with too many states."""
    state = automaton(language)
    if state is None or (most is not None and max(state.rest, least) > most):
        return NOTHING
    return sequence(literal('"'), intern(String, language, least, most))


def to_json(value: Any) -> str:
    """Write a value as it stands in the replies of models: characters as they are, not as escapes."""
    return json.dumps(value, ensure_ascii=False)


# Between two tokens of JSON one blank may stand, and no more: a weak model would write blanks for ever.
BLANK: Node = intern(Blank, raw(chars(single(" "))), 0, 1)
COMMA = sequence(literal(","), BLANK)
COLON = sequence(literal(":"), BLANK)
