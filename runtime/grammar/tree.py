"""A grammar as a tree of a few kinds of nodes. Rules have names, so that a tree can refer to itself.

Equal nodes are one object. What a node means is said by the matcher, which reads a text by it; `ebnf` and `lark` write
it for engines.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from .interning import Interned, intern
from .regular.automaton import State, automaton
from .regular.charset import EVERY, single
from .regular.language import Language, chars, minus, words


class Node(Interned):
    """A piece of text that a grammar describes."""

    __slots__ = ()


class Literal(Node):
    """This text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Raw(Node):
    """A text of a language, as it is."""

    __slots__ = ("language",)

    def __init__(self, language: Language) -> None:
        super().__init__()
        self.language = language


class Numeral(Raw):
    """A number of JSON, whose text is of a language."""

    __slots__ = ()


class Sequence(Node):
    """One after another; the empty text where there are none."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[Node, ...]) -> None:
        super().__init__()
        self.items = items


class Choice(Node):
    """Any one of them; nothing at all where there are none."""

    __slots__ = ("options",)

    def __init__(self, options: tuple[Node, ...]) -> None:
        super().__init__()
        self.options = options


class Repeat(Node):
    """The item from `least` to `most` times; None: without end."""

    __slots__ = ("item", "least", "most")

    def __init__(self, item: Node, least: int, most: int | None) -> None:
        super().__init__()
        self.item, self.least, self.most = item, least, most


class Reference(Node):
    """What the rule of this name describes."""

    __slots__ = ("rule",)

    def __init__(self, rule: str) -> None:
        super().__init__()
        self.rule = rule


class Quoted(Node):
    """The rest of a JSON string after its opening quote: characters that are a text of the language once unescaped, and
    the closing quote."""

    __slots__ = ("language",)

    def __init__(self, language: Language) -> None:
        super().__init__()
        self.language = language

    @property
    def may_close(self) -> bool:
        """Whether the closing quote may come next."""
        return self.language.empty

    def after(self, code_point: int) -> "Self | None":
        """Return the rest of the string after a character; None if it cannot be completed after it."""
        state = automaton(self.language)
        target = state.next(code_point) if state else None
        return None if target is None else self._after(target, code_point)

    def after_any(self) -> "Self | None":
        r"""Return the rest of the string after a character where it is the same after each, so that `\uXXXX` may stand
        there; else None."""
        state = automaton(self.language)
        if state is None or len(state.moves) != 1 or state.moves[0][0] != EVERY:
            return None
        return self._after(state.moves[0][1], ord(" "))

    def _after(self, state: State, code_point: int) -> "Self | None":
        raise NotImplementedError


class String(Quoted):
    """A string of `least` to `most` characters."""

    __slots__ = ("least", "most")

    def __init__(self, language: Language, least: int = 0, most: int | None = None) -> None:
        super().__init__(language)
        self.least, self.most = least, most

    @property
    def may_close(self) -> bool:
        """Whether the closing quote may come next."""
        return self.language.empty and self.least == 0

    def _after(self, state: State, code_point: int) -> "String | None":
        most = None if self.most is None else self.most - 1
        if most is not None and state.rest > most:
            return None
        return intern(String, state.language, max(0, self.least - 1), most)


class Escape(Node):
    """The rest of a JSON string after a backslash in it."""

    __slots__ = ("string",)

    def __init__(self, string: Quoted) -> None:
        super().__init__()
        self.string = string


class Member(Node):
    """A member of an object: its key, and the node of its value."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: Node) -> None:
        super().__init__()
        self.name, self.value = name, value


class Count(NamedTuple):
    """How many things follow: at least and at most so many; None: without end."""

    least: int
    most: int | None

    def after_one(self) -> "Count":
        """Return how many follow the next."""
        return Count(max(self.least - 1, 0), None if self.most is None else self.most - 1)


@dataclass(frozen=True, slots=True)
class MemberKind:
    """Members whose keys are texts of `keys`. One of them does what is `wanted` of an object under these numbers."""

    keys: Language
    value: Node
    wanted: frozenset[int] = frozenset()


class Members(Node):
    """The rest of an object whose members are of these `kinds`, none with a key of another, and its closing brace.

    So many of them `follow`, and among them such as do what is still `wanted`. `first`: none stands before them.
    `names` are the keys of those written so far.
    """

    __slots__ = ("first", "follow", "kinds", "names", "wanted")

    def __init__(
        self,
        kinds: tuple[MemberKind, ...],
        first: bool,
        follow: Count,
        wanted: frozenset[int],
        names: frozenset[str],
    ) -> None:
        super().__init__()
        self.kinds, self.first, self.follow, self.wanted, self.names = kinds, first, follow, wanted, names

    @property
    def may_end(self) -> bool:
        """Whether the object may end here."""
        return self.follow.least == 0 and not self.wanted

    def keys(self, kind: MemberKind) -> Language:
        """Return the keys of a kind that were not written yet."""
        return minus(kind.keys, words(self.names)) if self.names else kind.keys

    @property
    def satisfiable(self) -> bool:
        """Whether what is wanted can still be done."""
        least, most = self.follow
        if most is not None and (most < least or (self.wanted and not most)):
            return False
        return all(
            any(number in kind.wanted and automaton(self.keys(kind)) for kind in self.kinds) for number in self.wanted
        )

    def after(self, kind: MemberKind, name: str) -> "Members":
        """Return what follows a member of that kind and name."""
        return intern(
            Members, self.kinds, False, self.follow.after_one(), self.wanted - kind.wanted, self.names | {name}
        )


class Key(Quoted):
    """The key of a member, of which `text` is written, and what follows it."""

    __slots__ = ("kind", "members", "text")

    def __init__(self, language: Language, text: str, kind: MemberKind, members: Members) -> None:
        super().__init__(language)
        self.text, self.kind, self.members = text, kind, members

    def after_any(self) -> None:
        """No `\\uXXXX` may stand in a key: which character it is would be known after it only."""
        return

    def _after(self, state: State, code_point: int) -> "Key":
        return intern(Key, state.language, self.text + chr(code_point), self.kind, self.members)


class UniqueItems(Node):
    """The rest of an array of scalars none of which equals another, and its closing bracket. So many of them `follow`.
    `first`: none stands before them. `seen` are the values written so far, in canonical form."""

    __slots__ = ("first", "follow", "item", "seen")

    def __init__(self, item: Node, first: bool, follow: Count, seen: frozenset[str]) -> None:
        super().__init__()
        self.item, self.first, self.follow, self.seen = item, first, follow, seen


class UniqueItem(Node):
    """The next item of such an array, and its rest."""

    __slots__ = ("items",)

    def __init__(self, items: UniqueItems) -> None:
        super().__init__()
        self.items = items


class ItemEnd(Node):
    """The end of an item, whose value joins those seen. Of its text some was `begun` before a matcher read the rest,
    from its character `start` on."""

    __slots__ = ("begun", "items", "start")

    def __init__(self, items: UniqueItems, start: int, begun: str) -> None:
        super().__init__()
        self.items, self.start, self.begun = items, start, begun


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A grammar: its root, and the rules to which nodes refer."""

    root: Node
    rules: Mapping[str, Node]


EMPTY: Node = intern(Sequence, ())
NOTHING: Node = intern(Choice, ())


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
        for part in option.options if isinstance(option, Choice) else (option,):
            flat[part] = None
    return next(iter(flat)) if len(flat) == 1 else intern(Choice, tuple(flat))


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
BLANK = repeated(raw(chars(single(" "))), 0, 1)
COMMA = sequence(literal(","), BLANK)
COLON = sequence(literal(":"), BLANK)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly inside a node."""
    match node:
        case Sequence():
            return node.items
        case Choice():
            return node.options
        case Repeat():
            return (node.item,)
        case Member():
            return (node.value,)
        case Members():
            return tuple(kind.value for kind in node.kinds)
        case UniqueItems():
            return (node.item,)
        case UniqueItem() | ItemEnd():
            return (node.items,)
        case Key():
            return (node.kind.value, node.members)
        case Escape():
            return (node.string,)
    return ()
