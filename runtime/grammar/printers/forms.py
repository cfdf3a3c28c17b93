"""Which languages are written for those of a tree: larger ones, where they would take long to compile."""

from collections.abc import Iterable

from ...errors import RequestError
from ..nodes import Delimited, Members, Node, Numeral, Quoted, Raw, Reference, children
from ..regular.automaton import automaton, matches
from ..regular.language import ANY, Language, minus, union, words
from ..tags import ANY_TEXT, VALUE_END
from ..tree import Tree
from .cost import seconds

_MOST_SECONDS = 0.3  # CPU, for all languages of a grammar
_MOST_FOR_ONE = 0.1  # for one of them
_MOST_DELIMITED = 0.16  # for one whose texts end with a tag: any such text takes 0.14
_CHEAP = (
    0.03  # what is cheaper is not written wider, and all other keys are: a model seldom writes a declared one there
)


class Forms:
    """The languages that are written for those of a tree; with `exact`, they themselves. `wide`: one is larger."""

    def __init__(self, tree: Tree, *, exact: bool) -> None:
        """Raises RequestError for a text outside of strings that would be too expensive."""
        self.wide = False
        self._exact = exact
        self._forms = self._choose(tree)

    @property
    def seconds(self) -> float:
        """The CPU seconds in which they are compiled, as estimated."""
        return sum(map(_price, set(self._forms.values())))

    def of(self, language: Language, *, text: bool = False) -> Language:
        """Return the language that is written for one. A `text` stands outside of strings."""
        if language not in self._forms:
            price = _price(language)
            cheap = self._exact or price <= _MOST_FOR_ONE
            self._forms[language] = language if cheap else self._wider(language, price, text=text)
        return self._forms[language]

    def of_delimited(self, language: Language) -> Language:
        """Return the language that is written for one whose texts end with a tag, or for the rest of such a one."""
        if language not in self._forms:
            cheap = self._exact or _price(language) <= _MOST_DELIMITED
            self._forms[language] = language if cheap else self._any_delimited(language)
        return self._forms[language]

    def _any_delimited(self, language: Language) -> Language:
        """Return any text up to the tag. Of a text that has begun, the last characters may have begun the tag, too."""
        self.wide = True
        if not automaton(minus(language, ANY_TEXT)):
            return ANY_TEXT
        rests = (VALUE_END[start:] for start in range(1, len(VALUE_END)))
        return union(ANY_TEXT, words(rest for rest in rests if matches(language, rest)))

    def _choose(self, tree: Tree) -> dict[Language, Language]:
        uses = dict(_languages(tree))
        prices = {language: _price(language) for language in uses if automaton(language)}
        forms = {language: language for language in prices}
        total = sum(prices.values())
        for language in sorted(prices, key=lambda one: prices[one], reverse=True):
            price = prices[language]
            if uses[language] == "delimited":
                if not self._exact and price > _MOST_DELIMITED:
                    forms[language] = self._any_delimited(language)
                continue
            most = _CHEAP if uses[language] == "key" else _MOST_FOR_ONE
            if not self._exact and (price > most or (total > _MOST_SECONDS and price > _CHEAP)):
                forms[language] = self._wider(language, price, text=uses[language] == "text")
                total += _price(forms[language]) - price
        return forms

    def _wider(self, language: Language, price: float, *, text: bool) -> Language:
        """Return a larger language that costs little. Raises RequestError for a text that has none: where one may be
        anything, nothing would say where it ends."""
        self.wide = True
        wider = language.widen()
        if automaton(wider) and _price(wider) < min(price, _MOST_FOR_ONE):
            return wider
        if text:
            raise RequestError(
                "the grammar would take too long to compile", hint="have fewer places in it where any character may be"
            )
        return ANY


def _price(language: Language) -> float:
    state = automaton(language)
    return seconds(state) if state else 0.0


def _languages(tree: Tree) -> Iterable[tuple[Language, str]]:
    """Yield the languages of a tree, and what each is for: a "key", a "string", "delimited" or a "text"."""
    seen: set[Node] = set()
    todo = [tree.root]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        match node:
            case Quoted():
                yield node.language, "string"
            case Members():
                yield from ((kind.keys, "key") for kind in node.kinds)
            case Numeral():
                pass
            case Delimited():
                yield node.language, "delimited"
            case Raw():
                yield node.language, "text"
            case Reference():
                todo.append(tree.rules[node.rule])
        todo += children(node)
