"""The printed EBNF against our own matcher, text by text, with the xgrammar package's matcher as the judge.

    python -m benchmarks.xgrammar_check FILE [--count 200] [--mutations 6]

FILE is as in `benchmarks.schemas`; `--count 0` takes all its schemas. Run it by hand in an environment that has the
package xgrammar, which is no dependency of ours: the engine has xgrammar built in, and no way to match a text.

Every instance, and random mutations of it, is matched in three ways: by our matcher, by the exact print, which has to
agree, and by the print for the engine, which may be wider but must not refuse what the matcher accepts. Then a text is
cut at a random place, and what remains of the grammar is printed and has to accept what remains of the text.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.schema_texts import SchemaOrder
from benchmarks.schemas import SchemaCase, read_cases
from runtime.errors import RequestError
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher
from runtime.grammar.printers.ebnf import to_ebnf
from runtime.grammar.tree import Tree

_SEED = 5
_ALPHABET = '"\\{}[],: 019-.aeZé_nu\n'  # beside the text's own characters
_CUTS = 3  # of each schema's texts


class Print:
    """A grammar as the engine gets it."""

    def __init__(self, tree: Tree, *, exact: bool = False) -> None:
        import xgrammar

        ebnf = to_ebnf(tree, exact=exact)
        self.wide = ebnf.wide
        self._grammar: Any = xgrammar.Grammar.from_ebnf(ebnf.text)

    def accepts(self, text: str) -> bool:
        from xgrammar.testing import _is_grammar_accept_string

        return bool(_is_grammar_accept_string(self._grammar, text))

    def agrees(self, text: str, matched: bool) -> bool:
        """Return whether the print accepts what the matcher does, and nothing else unless it is wide."""
        accepted = self.accepts(text)
        return accepted == matched or (accepted and self.wide)


class Check:
    """Counts of what was compared, and the differences."""

    def __init__(self, mutations: int) -> None:
        self.counts = Counter[str]()
        self.differences: list[str] = []
        self._mutations = mutations
        self._random = random.Random(_SEED)

    def check(self, case: SchemaCase) -> None:
        """Compare all the texts of a schema."""
        try:
            tree = compile_schema(case.schema)
        except RequestError:
            self.counts["schemas refused"] += 1
            return
        try:
            exact, wide = Print(tree, exact=True), Print(tree)
        except RuntimeError as exc:
            self._differ("xgrammar refuses the print", case, str(exc))
            return
        self.counts["schemas"] += 1
        self.counts["schemas with a wide print"] += wide.wide
        order = SchemaOrder(case.schema)
        texts = [text for instance in (*case.valid, *case.invalid) for text in order.texts(instance)]
        texts = [mutant for text in texts for mutant in self._mutants(text)]
        for text in texts:
            matched = matches(Matcher(tree), text)
            self.counts["texts"] += 1
            self.counts["texts that match"] += matched
            if not exact.agrees(text, matched):
                self._differ("the exact print differs", case, text)
            if not wide.agrees(text, matched):
                self._differ("the engine's print differs", case, text)
        for text in [text for text in texts if matches(Matcher(tree), text)][:_CUTS]:
            self._check_rest(case, tree, text)

    def _check_rest(self, case: SchemaCase, tree: Tree, text: str) -> None:
        """Compare what remains of a grammar after a part of a text with the grammar itself."""
        place = self._random.randrange(len(text) + 1)
        matcher = Matcher(tree)
        matcher.feed(text[:place])
        rest = matcher.rest()
        self.counts["remainders"] += 1
        prints = [Print(rest, exact=True), Print(rest)]
        for follows in {text[place:], text[place:] + "}", text[place + 1 :], text[place:][:-1]}:
            matched = matches(Matcher(tree), text[:place] + follows)
            for written in prints:
                if not written.agrees(follows, matched):
                    self._differ("the remainder's print differs", case, f"{text[:place]} | {follows}")

    def _mutants(self, text: str) -> Iterator[str]:
        yield text
        for _ in range(self._mutations):
            place = self._random.randrange(len(text) + 1)
            char = self._random.choice(_ALPHABET + text)
            mutant = self._random.choice(
                (
                    text[:place] + text[place + 1 :],
                    text[:place] + char + text[place:],
                    text[:place] + char + text[place + 1 :],
                    text[:place],
                )
            )
            if "\0" not in mutant:  # the end of a text for xgrammar
                yield mutant

    def _differ(self, what: str, case: SchemaCase, text: str) -> None:
        self.counts[what] += 1
        self.differences.append(f"{what}: {case.name}\t{text[:300]}")


def matches(matcher: Matcher, text: str) -> bool:
    return matcher.feed(text) == len(text) and matcher.complete


def main() -> None:
    """Run the check that the command line describes. Exits with 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", metavar="NAME", help="schemas whose names contain this")
    parser.add_argument("--count", type=int, default=200, help="schemas, drawn at random; 0 for all")
    parser.add_argument("--mutations", type=int, default=6, help="of each text")
    args = parser.parse_args()
    cases = list(read_cases(args.file, args.only))
    random.Random(_SEED).shuffle(cases)
    check, shown = Check(args.mutations), 0
    for case in cases[: args.count or None]:
        check.check(case)
        if len(check.differences) > shown:
            print(*check.differences[shown:], sep="\n", flush=True)
            shown = len(check.differences)
    print(*(f"{what}: {count:,}" for what, count in check.counts.items()), sep="\n")
    raise SystemExit(bool(check.differences))


if __name__ == "__main__":
    main()
