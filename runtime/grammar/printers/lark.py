"""A tree in llguidance's syntax, a variant of Lark's, for engines that expose their logits.

A string of JSON is one terminal, a regular expression over its escaped text; llguidance derives it lazily, so counts
cost nothing. Of the escapes, those are written that a character needs.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

from collections.abc import Callable, Hashable

from ..interning import intern
from ..matcher import SHORT_ESCAPES, member
from ..nodes import (
    Either,
    Escape,
    ItemEnd,
    Key,
    Literal,
    Member,
    Members,
    Node,
    Quoted,
    Raw,
    Reference,
    Repeat,
    Sequence,
    String,
    UniqueItem,
    UniqueItems,
)
from ..regular import charset
from ..regular.charset import Ranges
from ..regular.expressions import character_class, to_expression
from ..regular.language import Language
from ..tree import COLON, COMMA, EMPTY, Tree, sequence
from ..unique import exclude

# Where only one text can follow, llguidance would demand its usual tokens. A model may spell it with others.
_NO_FORCING = '%llguidance {"no_forcing": true}\n'
_ESCAPED = {character: letter for letter, character in SHORT_ESCAPES.items() if character != "/"}


def to_lark(tree: Tree) -> str:
    """Write a tree in llguidance's syntax. What it allows may be wider in what only the matcher counts: keys and
    unique items that come twice, multiples."""
    return _Printer(tree).print()


class _Printer:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._bodies: dict[str, str] = {}
        self._names: dict[Hashable, str] = {}
        self._waiting: list[tuple[str, Callable[[], str]]] = []

    def print(self) -> str:
        """Return the grammar."""
        root = self._write(self._tree.root)
        while self._waiting:
            name, write = self._waiting.pop()
            self._bodies[name] = write()
        rules = [("start", root), *self._bodies.items()]
        return _NO_FORCING + "".join(f"{name}: {body}\n" for name, body in rules)

    def _rule(self, kind: str, key: Hashable, write: Callable[[], str]) -> str:
        if (kind, key) not in self._names:
            self._names[kind, key] = name = f"{kind}{len(self._names)}"
            self._waiting.append((name, write))
        return self._names[kind, key]

    def _write(self, node: Node) -> str:
        match node:
            case Literal():
                return _quote(node.text)
            case Sequence():
                return self._sequence(node.items)
            case Either():
                return f"({' | '.join(map(self._write, node.options))})"
            case Repeat():
                return _repeated(self._write(node.item), node.least, node.most)
            case Reference():
                target = self._tree.rules[node.rule]
                return self._rule("v", target, lambda: self._write(target))
            case Member():
                return self._write(member(node))
            case Raw():
                return self._terminal(node.language, to_expression)
            case Escape():
                return self._escape(node)
            case Quoted():
                return self._string(node, "")
        return self._rest(node)

    def _sequence(self, items: tuple[Node, ...]) -> str:
        """Write a sequence; a string's opening quote belongs to its terminal."""
        parts: list[str] = []
        for index, item in enumerate(items):
            following = items[index + 1] if index + 1 < len(items) else EMPTY
            before = items[index - 1] if index else EMPTY
            if isinstance(item, Literal) and isinstance(following, Quoted):
                parts += [_quote(item.text[:-1])] if item.text[:-1] else []
            elif isinstance(item, Quoted):
                parts.append(self._string(item, '"' if isinstance(before, Literal) else ""))
            else:
                parts.append(self._write(item))
        return " ".join(parts) or '""'

    def _terminal(self, key: Language, write: Callable[[Language], str], *more: Hashable) -> str:
        return self._rule("T", (key, more), lambda: write(key))

    def _string(self, node: Quoted, quote: str) -> str:
        """Write a string from its opening quote, or the rest of one; of a key, what follows, too."""
        language, least, most = node.language, 0, None
        if isinstance(node, String):
            least, most = node.least, node.most
        counted = f" & {_repeated(_ESCAPED_CHARACTER, least, most)}" if least or most is not None else ""
        opened = f"{_quote(quote)} " if quote else ""
        text = self._terminal(
            language, lambda one: f'{opened}({to_expression(one, _escaped)}{counted}) "\\""', least, most, quote
        )
        if not isinstance(node, Key):
            return text
        return f"{text} {self._write(sequence(COLON, node.kind.value, node.members.after(node.kind, '')))}"

    def _escape(self, node: Escape) -> str:
        options = []
        for letter, character in SHORT_ESCAPES.items():
            if (rest := node.string.after(ord(character))) is not None:
                options.append(f"{_quote(letter)} {self._string(rest, '')}")
        return f"({' | '.join(options)})"

    def _rest(self, node: Node) -> str:
        match node:
            case Members():
                general = intern(Members, node.kinds, node.first, node.follow, node.wanted, frozenset[str]())
                return self._rule("o", general, lambda: self._members(general))
            case UniqueItem():
                item = exclude(node.items.item, node.items.seen, self._tree.rules)
                return f"{self._write(item)} {self._rest(node.items.after_item())}"
            case ItemEnd():
                return self._rest(node.items.after_item())
            case UniqueItems():
                unseen = intern(UniqueItems, node.item, node.first, node.follow, frozenset[str]())
                return self._rule("u", unseen, lambda: self._unique(unseen))
        raise TypeError(node)

    def _members(self, node: Members) -> str:
        options = [_quote("}")] if node.may_end else []
        if node.follow.most != 0:
            for kind in node.kinds:
                key = self._string(intern(String, kind.keys), '"')
                rest = self._write(sequence(COLON, kind.value, node.after(kind, "")))
                options.append(f"{'' if node.first else self._write(COMMA)} {key} {rest}")
        return f"({' | '.join(options)})"

    def _unique(self, node: UniqueItems) -> str:
        options = [_quote("]")] if node.follow.least == 0 else []
        if node.follow.most != 0:
            start = "" if node.first else self._write(COMMA)
            options.append(f"{start} {self._write(node.item)} {self._rest(node.after_item())}")
        return f"({' | '.join(options)})"


def _escaped(ranges: Ranges) -> str:
    """Return a regular expression of the characters as they are written in a JSON string."""
    plain = charset.subtract(ranges, charset.invert(charset.UNESCAPED))
    options = [character_class(plain)] if plain else []
    letters = "".join(letter for character, letter in _ESCAPED.items() if charset.contains(ranges, ord(character)))
    if letters:
        options.append(f'"\\\\" {character_class(charset.chars(letters))}')
    return f"({' | '.join(options)})" if options else '("" & /./)'


_ESCAPED_CHARACTER = _escaped(charset.EVERY)


def _quote(text: str) -> str:
    return f'"{"".join(map(_quoted_character, text))}"'


def _quoted_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\u{ord(character):04x}"


def _repeated(item: str, least: int, most: int | None) -> str:
    """Write an item from `least` to `most` times. llguidance rejects {0,0}."""
    return '""' if most == 0 else f"({item}){{{least},{'' if most is None else most}}}"
