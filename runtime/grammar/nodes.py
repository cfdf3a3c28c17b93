"""The kinds of nodes of which the tree of a grammar consists. Equal nodes are one object.

What a node means is said by the matcher, which reads a text by it; `ebnf` and `lark` write it for engines.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

from .interning import Interned, intern
from .regular.automaton import State, automaton
from .regular.charset import EVERY
from .regular.language import Language, minus, words


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


class Delimited(Raw):
    """A text of a language, each of whose texts ends with the tag that closes an argument."""

    __slots__ = ()


class Numeral(Raw):
    """A number of JSON, whose text is of a language."""

    __slots__ = ()


class Sequence(Node):
    """One after another; the empty text where there are none."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[Node, ...]) -> None:
        super().__init__()
        self.items = items


class Either(Node):
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


class Blank(Repeat):
    """The blanks that may stand between a comma or colon of JSON and what follows it: a value or a key."""

    __slots__ = ()


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

    def after_item(self) -> "UniqueItems":
        """Return what follows an item, whose value is not looked at."""
        return intern(UniqueItems, self.item, False, self.follow.after_one(), self.seen)


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


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly inside a node."""
    match node:
        case Sequence():
            return node.items
        case Either():
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
