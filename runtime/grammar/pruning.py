"""A tree without what can never end, such as a member whose schema has no valid value."""

from collections.abc import Mapping

from .interning import intern
from .nodes import (
    Blank,
    Count,
    Either,
    Member,
    MemberKind,
    Members,
    Node,
    Reference,
    Repeat,
    Sequence,
    UniqueItems,
    children,
)
from .tree import EMPTY, NOTHING, Tree, choice, repeated, sequence


def pruned(tree: Tree) -> Tree | None:
    """Return the tree without what can never end; None if nothing is left."""
    ending = _ending_rules(tree.rules)
    rules = {name: _prune(node, ending) for name, node in tree.rules.items() if name in ending}
    root = _prune(tree.root, ending)
    return None if root is NOTHING else Tree(root, rules)


def _ending_rules(rules: Mapping[str, Node]) -> set[str]:
    """The names of rules that describe some text: a least fixed point, by what each rule refers to."""
    users: dict[str, set[str]] = {}
    for name, node in rules.items():
        for used in _references(node):
            users.setdefault(used, set()).add(name)
    ending: set[str] = set()
    todo = list(rules)
    while todo:
        name = todo.pop()
        if name not in ending and _ends(rules[name], ending):
            ending.add(name)
            todo += users.get(name, ())
    return ending


def _references(node: Node) -> set[str]:
    found: set[str] = set()
    todo = [node]
    while todo:
        part = todo.pop()
        if isinstance(part, Reference):
            found.add(part.rule)
        todo += children(part)
    return found


def _ends(node: Node, ending: set[str]) -> bool:
    match node:
        case Sequence():
            return all(_ends(item, ending) for item in node.items)
        case Either():
            return any(_ends(option, ending) for option in node.options)
        case Repeat():
            return node.least == 0 or _ends(node.item, ending)
        case Reference():
            return node.rule in ending
        case Member():
            return _ends(node.value, ending)
        case Members():
            return (rest := _without(node, ending)).may_end or (bool(rest.kinds) and rest.satisfiable)
        case UniqueItems():
            return node.follow.least == 0 or _ends(node.item, ending)
    return True


def _without(node: Members, ending: set[str]) -> Members:
    kinds = tuple(
        MemberKind(kind.keys, _prune(kind.value, ending), kind.wanted)
        for kind in node.kinds
        if _ends(kind.value, ending)
    )
    return intern(Members, kinds, node.first, node.follow, node.wanted, node.names)


def _prune(node: Node, ending: set[str]) -> Node:
    if not _ends(node, ending):
        return NOTHING
    match node:
        case Sequence():
            return sequence(*(_prune(item, ending) for item in node.items))
        case Either():
            return choice(*(_prune(option, ending) for option in node.options if _ends(option, ending)))
        case Blank():
            return node
        case Repeat():
            return repeated(_prune(node.item, ending), node.least, node.most) if _ends(node.item, ending) else EMPTY
        case Member():
            return intern(Member, node.name, _prune(node.value, ending))
        case Members():
            return _without(node, ending)
        case UniqueItems():
            item = _prune(node.item, ending)
            follow = Count(0, 0) if item is NOTHING else node.follow
            return intern(UniqueItems, item, node.first, follow, node.seen)
    return node
