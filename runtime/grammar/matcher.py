"""The derivative of a grammar: reads a text character by character, and knows what may follow.

Its state is a set of stacks of nodes: what is to come, by each way in which the text so far can be understood. Stacks
share their lower parts. Every stack can be completed, so what is refused is refused at once.
"""

from collections.abc import Iterable

from .interning import intern
from .nodes import (
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
from .regular import charset
from .regular.automaton import State, automaton
from .regular.language import chars, concat, repeat, union
from .tree import (
    COLON,
    COMMA,
    EMPTY,
    NOTHING,
    Tree,
    choice,
    literal,
    raw,
    repeated,
    sequence,
    to_json,
)
from .unique import canonical, exclude

SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX = chars(charset.HEX)
# Four digits after \u, without surrogates: those of a pair would count as two characters.
_NO_SURROGATE = concat(chars(charset.chars("dD")), chars(charset.chars("01234567")), repeat(_HEX, 2, 2))
_OTHER = concat(chars(charset.subtract(charset.HEX, charset.chars("dD"))), repeat(_HEX, 3, 3))
CODE_UNIT = raw(union(_OTHER, _NO_SURROGATE))
_FEW_CELLS = 1000

_Stack = tuple[Node, "_Stack | None"]


class Matcher:
    """A text that is being read by a grammar."""

    def __init__(self, tree: Tree) -> None:
        self._rules = tree.rules
        self._cells: dict[tuple[Node, int], _Stack] = {}  # by node and what is below, so that equal stacks are one
        self._most_cells = _FEW_CELLS
        self._text: list[str] = []
        self._stacks = self._expand([self._push(tree.root, None)])

    def feed(self, text: str) -> int:
        """Read a text up to the first character that the grammar refuses; return how many characters were read."""
        for count, character in enumerate(text):
            stacks = self._step(character)
            if not stacks:
                return count
            self._stacks = stacks
            if len(self._cells) > self._most_cells:
                self._forget()
        return len(text)

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return None in self._stacks

    @property
    def ended(self) -> bool:
        """Whether nothing may follow."""
        return self._stacks == [None]

    def rest(self) -> Tree:
        """Return the grammar of what remains."""
        options = []
        for stack in self._stacks:
            items, below = list[Node](), stack
            while below is not None:
                node, below = below
                items.append(self._detached(node) if isinstance(node, ItemEnd) else node)
            options.append(sequence(*items))
        return Tree(choice(*options), self._rules)

    def forced(self, *, whole: bool = False) -> str:
        """Return the text with which everything begins that may follow; with `whole`, only where nothing may follow it,
        else "". The matcher does not read it."""
        stacks, text = self._stacks, ""
        while len(self._stacks) == 1 and (stack := self._stacks[0]) is not None:
            character = _only_character(stack[0])
            if not character or not self.feed(character):
                break
            text += character
        ended, self._stacks = self.ended, stacks
        self._forget()
        del self._text[len(self._text) - len(text) :]
        return text if ended or not whole else ""

    def _forget(self) -> None:
        """Drop the cells that are in no stack any more."""
        self._cells.clear()
        for stack in self._stacks:
            cell = stack
            while cell is not None and (cell[0], id(cell[1])) not in self._cells:
                self._cells[cell[0], id(cell[1])] = cell
                cell = cell[1]
        self._most_cells = 2 * len(self._cells) + _FEW_CELLS

    def _detached(self, node: ItemEnd) -> ItemEnd:
        """Return the end of an item with what was read of it, for a matcher that did not read it."""
        return intern(ItemEnd, node.items, 0, node.begun + "".join(self._text[node.start :]))

    def _push(self, node: Node, stack: "_Stack | None") -> "_Stack | None":
        if isinstance(node, Sequence):
            for item in reversed(node.items):
                stack = self._push(item, stack)
            return stack
        return self._cells.setdefault((node, id(stack)), (node, stack))

    def _expand(self, todo: "Iterable[_Stack | None]") -> "list[_Stack | None]":
        """Return the stacks whose top takes a character, and None for one that is empty."""
        found: dict[int, _Stack | None] = {}
        seen: set[int] = set()
        waiting = list(todo)
        while waiting:
            stack = waiting.pop()
            if id(stack) in seen:
                continue
            seen.add(id(stack))
            if stack is None:
                found[id(None)] = None
                continue
            node, below = stack
            match node:
                case Either():
                    waiting += [self._push(option, below) for option in node.options]
                case Reference():
                    waiting.append(self._push(self._rules[node.rule], below))
                case Repeat():
                    waiting += self._expand_repeat(node, below)
                case Member():
                    waiting.append(self._push(member(node), below))
                case Members():
                    waiting += [self._push(option, below) for option in _member_options(node)]
                case UniqueItems() | UniqueItem() | ItemEnd():
                    waiting += [self._push(option, below) for option in self._item_options(node)]
                case Raw() if (state := automaton(node.language)) and state.accepts:
                    waiting.append(below)
                    if state.moves:
                        found[id(stack)] = stack
                case _:
                    found[id(stack)] = stack
        return list(found.values())

    def _expand_repeat(self, node: Repeat, below: "_Stack | None") -> "list[_Stack | None]":
        found = [below] if node.least == 0 else []
        if node.most is None or node.most > 0:
            most = None if node.most is None else node.most - 1
            found.append(self._push(node.item, self._push(repeated(node.item, max(0, node.least - 1), most), below)))
        return found

    def _item_options(self, node: "UniqueItems | UniqueItem | ItemEnd") -> list[Node]:
        match node:
            case UniqueItems():
                options = [literal("]")] if node.follow.least == 0 else []
                if node.follow.most != 0 and exclude(node.item, node.seen, self._rules) is not NOTHING:
                    options.append(sequence(EMPTY if node.first else COMMA, intern(UniqueItem, node)))
                return options
            case UniqueItem():
                left = exclude(node.items.item, node.items.seen, self._rules)
                return [sequence(left, intern(ItemEnd, node.items, len(self._text), ""))]
        items = node.items
        seen = items.seen | {canonical(self._detached(node).begun)}
        return [intern(UniqueItems, items.item, False, items.follow.after_one(), seen)]

    def _step(self, character: str) -> "list[_Stack | None]":
        """Return the stacks after a character; none if it is refused."""
        code_point, found = ord(character), list["_Stack | None"]()
        for stack in self._stacks:
            if stack is None:
                continue
            node, below = stack
            for following in _read(node, character, code_point):
                found.append(self._push(following, below))
        if found:
            self._text.append(character)
            found = self._expand(found)
        return found


def _only_character(node: Node) -> str:
    """Return the one character with which the node begins; "" if there are several."""
    match node:
        case Literal():
            return node.text[0]
        case Raw():
            state = automaton(node.language)
            return _single(state.moves) if state and not state.accepts else ""
        case String():
            state = automaton(node.language)
            if state is None:
                return ""
            if node.most == 0 or not state.moves:
                return '"'
            character = "" if node.language.empty and not node.least else _single(state.moves)
            return "" if character in SHORT_ESCAPES.values() else character
    return ""


def _single(moves: tuple[tuple[charset.Ranges, State], ...]) -> str:
    """Return the character of the only move."""
    if len(moves) != 1 or len(moves[0][0]) != 1 or moves[0][0][0][0] != moves[0][0][0][1]:
        return ""
    return chr(moves[0][0][0][0])


def member(node: Member) -> Node:
    """Return a member as a sequence."""
    return sequence(literal(to_json(node.name)), COLON, node.value)


def _member_options(node: Members) -> list[Node]:
    options = [literal("}")] if node.may_end else []
    if node.follow.most == 0:
        return options
    start = literal('"') if node.first else sequence(COMMA, literal('"'))
    keys = [(kind, node.keys(kind)) for kind in node.kinds]
    return options + [sequence(start, intern(Key, left, "", kind, node)) for kind, left in keys if automaton(left)]


def _read(node: Node, character: str, code_point: int) -> list[Node]:
    """Return what may follow a character at the beginning of a node that takes one."""
    match node:
        case Literal():
            return [literal(node.text[1:])] if node.text[0] == character else []
        case Raw():
            state = automaton(node.language)
            target = state.next(code_point) if state else None
            return [] if target is None else [intern(type(node), target.language)]
        case Quoted():
            if character == '"':
                return _close(node)
            if character == "\\":
                return [intern(Escape, node)] if _may_escape(node) else []
            if charset.contains(charset.UNESCAPED, code_point):
                return _only(node.after(code_point))
        case Escape():
            if character == "u" and (following := node.string.after_any()):
                return [sequence(CODE_UNIT, following)]
            if character in SHORT_ESCAPES:
                return _only(node.string.after(ord(SHORT_ESCAPES[character])))
    return []


def _only(node: Node | None) -> list[Node]:
    return [] if node is None else [node]


def _close(node: Quoted) -> list[Node]:
    """Return what follows the closing quote; nothing if it may not come here."""
    if not node.may_close:
        return []
    if not isinstance(node, Key):
        return [EMPTY]
    members = node.members.after(node.kind, node.text)
    return [sequence(COLON, node.kind.value, members)] if members.satisfiable else []


def _may_escape(node: Quoted) -> bool:
    """Whether a backslash may come next."""
    return node.after_any() is not None or any(
        node.after(ord(character)) is not None for character in SHORT_ESCAPES.values()
    )
