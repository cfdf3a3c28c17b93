r"""A tree as EBNF for xgrammar, in the forms that are cheap there.

- A string is right-recursive, a rule for each state of its automaton, and each ends with a look-ahead of what may
  follow it: with `(char | escape)*` every token that holds a quote is tried in every step, 50 ms with GLM-4's.
- What would cost too much is written wider: counts as repeats without end, complements as any text. The matcher reads
  the reply then, and it is cut where the grammar refuses it. What follows a cut is exact for its first characters, so
  that each cut is followed by text that the grammar takes.
- `\x` takes all hexadecimal digits that follow, so characters are written `\u00XX`; a negated class with characters
  above 127 raises inside the engine's step, so classes are not negated above that.

https://xgrammar.mlc.ai/docs/tutorials/ebnf_guided_generation
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from ..interning import intern
from ..matcher import SHORT_ESCAPES, member
from ..nodes import (
    Blank,
    Count,
    Delimited,
    Either,
    Escape,
    ItemEnd,
    Key,
    Literal,
    Member,
    Members,
    Node,
    Numeral,
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
from ..regular.automaton import automaton
from ..regular.charset import Ranges
from ..regular.language import Language
from ..tree import COLON, COMMA, Tree, literal, sequence
from ..unique import exclude
from .forms import Forms

Q = TypeVar("Q", bound=Quoted)

_SECONDS = 5e-6  # CPU, in which a character of a grammar is compiled, as far as it is none of a string's language
_FRONT = 3  # characters that are exact after a cut; each may cost as much as a string
_COUNTED = 30  # members and items up to which they are counted
_BEFORE_VALUE = r'(= ["\u002d0-9tfn{\[])'
_AFTER_VALUE = r"(= [,}\]])"
_AFTER_STRING = r"(= [,}\]:])"
_ESCAPED = {character: letter for letter, character in SHORT_ESCAPES.items()}
_ANY_ESCAPE = r'["\\/bfnrt] | "u" ([0-9a-cA-Ce-fE-F] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2})'


@dataclass(frozen=True, slots=True)
class EngineGrammar:
    """A grammar in EBNF. It allows what the tree does, and more if it is `wide`. `seconds` is the CPU time that it
    takes to compile, as estimated."""

    text: str
    wide: bool
    seconds: float


def to_ebnf(tree: Tree, *, exact: bool = False, cut: bool = False) -> EngineGrammar:
    """Write a tree as EBNF; an `exact` one at any price, but for what no EBNF can say (no key and no unique item twice,
    lengths of texts). What follows a `cut` is exact for some characters, so that text follows that the tree allows.
    Raises RequestError for a text outside of JSON strings that would be too expensive."""
    return _Printer(tree, exact=exact, front=_FRONT if cut else 0).print()


class _Printer:
    def __init__(self, tree: Tree, *, exact: bool, front: int) -> None:
        self._tree = tree
        self._front = front
        self._bodies: dict[str, str] = {}
        self._names: dict[Hashable, str] = {}
        self._waiting: list[tuple[str, Callable[[], str]]] = []
        self._forms = Forms(tree, exact=exact)
        self._wide = False

    def print(self) -> EngineGrammar:
        """Return the grammar."""
        root = self._write(self._tree.root, front=True)
        while self._waiting:
            name, write = self._waiting.pop()
            self._bodies[name] = write()
        rules = [("root", root), *self._bodies.items()]
        text = "".join(f"{name} ::= {body}\n" for name, body in rules)
        return EngineGrammar(text, self._wide or self._forms.wide, self._forms.seconds + _SECONDS * len(text))

    def _rule(self, kind: str, key: Hashable, write: Callable[[], str]) -> str:
        """Return the name of a rule, which is written later if it is new."""
        if (kind, key) not in self._names:
            self._names[kind, key] = name = f"{kind}{len(self._names)}"
            self._waiting.append((name, write))
        return self._names[kind, key]

    def _write(self, node: Node, *, front: bool = False) -> str:
        """Return a node as an expression that can stand in a sequence. What is in `front` is exact at its beginning."""
        match node:
            case Literal():
                return _quote(node.text)
            case Sequence():
                parts = [self._write(item, front=front and index == 0) for index, item in enumerate(node.items)]
                return " ".join(parts) or '""'
            case Either():
                return f"({' | '.join(self._write(option, front=front) for option in node.options)})"
            case Blank():
                self._bodies["blank"] = f'("" | {self._write(node.item)}) {_BEFORE_VALUE}'
                return "blank"
            case Repeat():
                return f"({self._write(node.item)}){_times(node.least, node.most)}"
            case Reference():
                target = self._tree.rules[node.rule]
                if isinstance(target, Reference | Literal | Raw) or _is_string(target):
                    return self._write(target)
                return self._rule("v", target, lambda: self._write(target))
            case Member():
                return self._rule("m", node, lambda: f"{self._write(member(node))} {_AFTER_VALUE}")
            case Numeral():
                return self._numeral(node.language)
            case Delimited():
                return self._delimited(node.language, self._front if front else 0)
            case Raw():
                return self._text(node.language, self._front if front else 0)
            case Quoted():
                return self._string(node, self._front if front else 0)
            case Escape():
                return self._escape(node)
            case Members():
                return self._members(node)
            case UniqueItems() | UniqueItem() | ItemEnd():
                return self._unique(node, front=front)
        raise TypeError(node)

    def _numeral(self, language: Language) -> str:
        return self._rule("n", language, lambda: f"{self._moves(language, self._numeral)} {_AFTER_VALUE}")

    def _text(self, language: Language, exact: int) -> str:
        """Return a text outside of strings, exact for some characters."""
        form = self._forms.of(language, text=True)
        state = automaton(form)
        if state and not state.accepts and not any(target.moves for _, target in state.moves):
            return _character_class(charset.normalise(part for ranges, _ in state.moves for part in ranges))
        if form is language or exact == 0:
            return self._text_state(form)
        return self._rule(
            "f", (language, exact), lambda: self._moves(language, lambda rest: self._text(rest, exact - 1))
        )

    def _delimited(self, language: Language, exact: int) -> str:
        """Return a text that ends with a tag, exact for some characters."""
        form = self._forms.of_delimited(language)
        if form is language or exact == 0:
            return self._text_state(form)
        return self._rule(
            "f", (language, exact), lambda: self._moves(language, lambda rest: self._delimited(rest, exact - 1))
        )

    def _text_state(self, language: Language) -> str:
        return self._rule("t", language, lambda: self._moves(language, self._text_state))

    @staticmethod
    def _moves(language: Language, write: Callable[[Language], str]) -> str:
        """Return the choice of what may come next in a text."""
        state = automaton(language)
        assert state is not None
        options = ['""'] if state.accepts else []
        for ranges, target in state.moves:
            options.append(_character_class(ranges) + (f" {write(target.language)}" if target.moves else ""))
        return f"({' | '.join(options)})"

    def _string(self, node: Quoted, exact: int) -> str:
        """Return a string after its opening quote, exact for some characters; of a key, what follows, too."""
        if isinstance(node, Key):
            following = sequence(COLON, node.kind.value, node.members.after(node.kind, ""))
            return f"{self._exact_state(intern(String, node.language), exact)} {self._write(following)}"
        assert isinstance(node, String)
        return self._exact_state(node, exact)

    def _state(self, language: Language) -> str:
        state = automaton(language)
        assert state is not None
        return self._rule("s", language, lambda: self._state_body(intern(String, language), self._next_state))

    def _next_state(self, node: String) -> str:
        return self._state(node.language)

    def _exact_state(self, node: String, exact: int) -> str:
        """Return the state of a string that is exact for some characters, and cheap after them."""
        form = self._forms.of(node.language)
        counted = node.least > 0 or node.most is not None
        self._wide |= counted
        if exact == 0 or (form is node.language and not counted):
            return self._state(form)
        return self._rule(
            "f", (node, exact), lambda: self._state_body(node, lambda rest: self._exact_state(rest, exact - 1))
        )

    def _state_body(self, node: String, write: Callable[[String], str]) -> str:
        """Return the choice of what may come next in a string."""
        state = automaton(node.language)
        assert state is not None
        options = [r'"\""'] if state.accepts and node.least == 0 else []
        for ranges, _ in state.moves:
            plain = charset.subtract(ranges, _ESCAPED_RANGES)
            following = node.after(ranges[0][0])
            if following is not None and plain:
                options.append(f"{_character_class(plain)} {write(following)}")
        if (following := node.after_any()) is not None:
            self._bodies["escape"] = _ANY_ESCAPE
            options.append(rf'"\\" escape {write(following)}')
        else:
            options += [rf'"\\" {letters} {write(rest)}' for letters, rest in _short_escapes(node)]
        return f"({' | '.join(options)}) {_AFTER_STRING}"

    def _escape(self, node: Escape) -> str:
        string = node.string
        if (following := string.after_any()) is not None:
            self._bodies["escape"] = _ANY_ESCAPE
            return f"escape {self._string(following, self._front)}"
        options = [f"{letters} {self._string(rest, self._front)}" for letters, rest in _short_escapes(string)]
        return f"({' | '.join(options)})"

    def _members(self, node: Members) -> str:
        """Return the rest of an object. That no key comes twice is left to the matcher."""
        follow = _countable(node.follow)
        self._wide = True
        general = intern(Members, node.kinds, node.first, follow, node.wanted, frozenset[str]())
        return self._rule("o", general, lambda: self._members_body(general))

    def _members_body(self, node: Members) -> str:
        options = [r'"}"'] if node.may_end else []
        if node.follow.most != 0:
            start = '"\\""' if node.first else self._write(sequence(COMMA, literal('"')))
            for kind in node.kinds:
                rest = sequence(COLON, kind.value, node.after(kind, ""))
                options.append(f"{start} {self._state(self._forms.of(kind.keys))} {self._write(rest)}")
        return f"({' | '.join(options)})"

    def _unique(self, node: UniqueItems | UniqueItem | ItemEnd, *, front: bool) -> str:
        """Return the rest of an array of unique items. That none comes twice is left to the matcher."""
        self._wide = True
        match node:
            case UniqueItem():
                item = exclude(node.items.item, node.items.seen, self._tree.rules) if front else node.items.item
                return f"{self._write(item)} {self._unique(node.items.after_item(), front=False)}"
            case ItemEnd():
                return self._unique(node.items.after_item(), front=False)
        general = intern(UniqueItems, node.item, node.first, _countable(node.follow), frozenset[str]())
        return self._rule("u", general, lambda: self._unique_body(general))

    def _unique_body(self, node: UniqueItems) -> str:
        options = ['"]"'] if node.follow.least == 0 else []
        if node.follow.most != 0:
            start = "" if node.first else f"{self._write(COMMA)} "
            options.append(f"{start}{self._write(node.item)} {self._unique(node.after_item(), front=False)}")
        return f"({' | '.join(options)})"


_ESCAPED_RANGES: Ranges = charset.invert(charset.UNESCAPED)


def _short_escapes(node: Q) -> Iterable[tuple[str, Q]]:
    """Yield what may follow a backslash, as a class of characters, and the rest of the string after them."""
    found: dict[Q, list[str]] = {}
    for letter, character in SHORT_ESCAPES.items():
        if (rest := node.after(ord(character))) is not None:
            found.setdefault(rest, []).append(letter)
    for rest, letters in found.items():
        yield _character_class(charset.chars("".join(letters))), rest


def _countable(count: Count) -> Count:
    """Return a count that takes few rules: a larger one is left to the matcher."""
    return Count(min(count.least, _COUNTED), None if count.most is None or count.most > _COUNTED else count.most)


def _is_string(node: Node) -> bool:
    return isinstance(node, Sequence) and len(node.items) == 2 and isinstance(node.items[1], String)


def _times(least: int, most: int | None) -> str:
    match least, most:
        case 0, None:
            return "*"
        case 1, None:
            return "+"
        case 0, 1:
            return "?"
    return f"{{{least},{'' if most is None else most}}}"


def _quote(text: str) -> str:
    return f'"{"".join(map(_quoted_character, text))}"'


def _quoted_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else _code(ord(character))


def _character_class(ranges: Ranges) -> str:
    negated = ""
    if ranges[-1][1] == charset.MAX_CODE_POINT:
        removed = charset.subtract(charset.EVERY, ranges)
        if not removed or removed[-1][1] < 128:
            ranges, negated = removed, "^"
    members = (
        _class_member(low) + ("" if low == high else ("-" if high > low + 1 else "") + _class_member(high))
        for low, high in ranges
    )
    return f"[{negated}{''.join(members)}]"


def _class_member(code_point: int) -> str:
    character = chr(code_point)
    return character if (character.isascii() and character.isalnum()) or character in "_ " else _code(code_point)


def _code(code_point: int) -> str:
    return f"\\u{code_point:04x}" if code_point < 0x10000 else f"\\U{code_point:08x}"
