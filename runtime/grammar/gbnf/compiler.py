"""The rules of an EBNF become a tree: automata, where they do not refer to themselves, else references."""

from collections.abc import Iterator
from functools import cached_property
from itertools import groupby

from .. import tree
from ..nodes import Node
from ..pruning import pruned
from ..regular import language
from ..tree import NOTHING, Tree
from .expressions import (
    Alternation,
    Class,
    Concatenation,
    Expression,
    Name,
    Quantified,
    Rules,
    Terminal,
    fail,
    names,
    recursive_rules,
    refuse_left_recursion,
)
from .parser import EbnfParser


def compile_ebnf(text: str) -> Tree:
    """Return the grammar. Raises RequestError for what is not valid or not supported, with the rule it stands in."""
    rules = EbnfParser(text).parse()
    if "root" not in rules:
        fail("it has no rule root", "name the rule with which the reply begins root")
    recursive = recursive_rules(rules)
    refuse_left_recursion(rules)
    builder = _Builder(rules, recursive)
    made = {name: builder.node(rules[name]) for name in recursive}
    found = pruned(Tree(builder.node(rules["root"]), made))
    if found is None:
        fail("it describes no text", "give each rule an alternative that does not refer to itself")
    return found


class _Builder:
    """Makes nodes of expressions: automata of those that are regular."""

    def __init__(self, rules: Rules, recursive: list[str]) -> None:
        self._rules = rules
        self._recursive = frozenset(recursive)
        self._languages: dict[str, language.Language] = {}
        self._nodes: dict[str, Node] = {}
        for name in self._in_order():
            if name in self._regular_rules:
                self._languages[name] = self._language(rules[name])
            else:
                self._nodes[name] = self.node(rules[name])

    def node(self, expression: Expression) -> Node:
        if isinstance(expression, Terminal):
            return tree.literal(expression.text)
        if self._is_regular(expression):
            return tree.raw(self._language(expression))
        match expression:
            case Name(name):
                return tree.reference(name) if name in self._recursive else self._nodes[name]
            case Concatenation(items):
                return tree.sequence(*map(self.node, self._joined(items)))
            case Alternation(options):
                return tree.choice(*map(self.node, options))
            case Quantified(item, least, most):
                return tree.repeated(self.node(item), least, most)
        return NOTHING

    def _in_order(self) -> Iterator[str]:
        """Yield the rules that are needed and not recursive, each after those to which it refers."""
        ordered = set[str]()
        todo = ["root", *self._recursive]
        while todo:
            name = todo[-1]
            before = [other for other in names(self._rules[name]) if other not in self._recursive | ordered]
            todo += before
            if not before:
                todo.pop()
                if name not in self._recursive | ordered:
                    ordered.add(name)
                    yield name

    def _joined(self, items: tuple[Expression, ...]) -> Iterator[Expression]:
        """Yield the items, with regular ones beside each other as one."""
        for regular, run in groupby(items, self._is_regular):
            found = tuple(run)
            yield from (Concatenation(found),) if regular and len(found) > 1 else found

    @cached_property
    def _regular_rules(self) -> set[str]:
        """The rules that refer to no recursive one."""
        regular = self._rules.keys() - self._recursive
        before = -1
        while len(regular) != before:
            before = len(regular)
            regular = {name for name in regular if all(other in regular for other in names(self._rules[name]))}
        return regular

    def _is_regular(self, expression: Expression) -> bool:
        return all(name in self._regular_rules for name in names(expression))

    def _language(self, expression: Expression) -> language.Language:
        match expression:
            case Terminal(text):
                return language.word(text)
            case Class(ranges):
                return language.chars(ranges)
            case Name(name):
                return self._languages[name]
            case Concatenation(items):
                return language.concat(*map(self._language, items))
            case Alternation(options):
                return language.union(*map(self._language, options))
            case Quantified(item, least, most):
                return language.repeat(self._language(item), least, most)
        return language.NOTHING
