"""Our grammars of JSON schemas against llguidance's own, which compiles schemas by itself.

    python -m benchmarks.llguidance_check FILE [--only NAME] [--mutations 6]

FILE is as in `benchmarks.schemas`. Every instance, and random mutations of it, is matched by our matcher and by
llguidance. What is accepted by one alone is listed, with the verdict of the jsonschema package on it. So are texts that
our matcher accepts and our print in llguidance's syntax does not; it may be wider.

https://github.com/guidance-ai/llguidance
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from benchmarks.schema_texts import SchemaOrder
from benchmarks.schemas import SchemaCase, read_cases
from runtime.errors import RequestError
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher
from runtime.grammar.printers.lark import to_lark

_SEED = 5
_ALPHABET = '"\\{}[],: 019-.aeZé_nu\n'  # beside the text's own characters
_SHOWN = 60


class LLGuidanceGrammar:
    """A grammar of llguidance's. Raises ValueError for one that it does not support."""

    def __init__(self, grammar: str) -> None:
        from llguidance import LLMatcher, LLTokenizer

        self._tokenizer, self._grammar = LLTokenizer("byte"), grammar
        if error := LLMatcher(self._tokenizer, grammar).get_error():
            raise ValueError(error)

    @classmethod
    def of_schema(cls, schema: Any) -> "LLGuidanceGrammar":
        """Return a JSON schema as llguidance compiles it."""
        from llguidance import LLMatcher

        # Without an option, it takes any blanks between two JSON tokens; ours are those that a model writes.
        options = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?", "lenient": False}
        return cls(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=options))

    @classmethod
    def printed(cls, schema: Any) -> "LLGuidanceGrammar":
        """Return a JSON schema as we compile it, and print it for llguidance. Raises RequestError."""
        from llguidance import LLMatcher

        return cls(LLMatcher.grammar_from_lark(to_lark(compile_schema(schema))))

    def matches(self, text: str) -> bool:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokenizer, self._grammar)
        tokens = list(text.encode())  # a token is a byte
        return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


class OwnSchema:
    """A JSON schema as we compile it. Raises RequestError for one that is not supported."""

    def __init__(self, schema: Any) -> None:
        self._tree = compile_schema(schema)

    def matches(self, text: str) -> bool:
        matcher = Matcher(self._tree)
        return matcher.feed(text) == len(text) and matcher.complete


def mutants(text: str, count: int, draws: random.Random) -> Iterator[str]:
    """Yield a text, and texts that differ from it in one place."""
    yield text
    for _ in range(count):
        place = draws.randrange(len(text) + 1)
        char = draws.choice(_ALPHABET + text)
        ends = (text[place + 1 :], char + text[place:], char + text[place + 1 :], "")
        yield text[:place] + draws.choice(ends)


def verdict(schema: Any, text: str) -> str:
    """Return what the jsonschema package has to say about a text."""
    try:
        value = json.loads(text)
    except ValueError:
        return "no JSON"
    draft = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        return "valid" if draft(schema, format_checker=draft.FORMAT_CHECKER).is_valid(value) else "invalid"
    except Exception as exc:  # of a reference that is not there, and others  # noqa: BLE001
        return type(exc).__name__


def compare(case: SchemaCase, count: int, found: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """Yield who alone accepts a text, the text, and the verdict on it. A schema that llguidance does not support is
    compared with our print alone."""
    try:
        theirs = LLGuidanceGrammar.of_schema(case.schema)
    except ValueError:
        found["schemas that llguidance does not support"] += 1
        theirs = None
    try:
        ours = OwnSchema(case.schema)
    except RequestError:
        found["schemas that we do not support"] += 1
        found["of these, schemas that llguidance supports"] += theirs is not None
        return
    try:
        printed = LLGuidanceGrammar.printed(case.schema)
    except ValueError as exc:
        found["prints that llguidance refuses"] += 1
        yield "ours", f"the print: {exc}", "not to be printed"
        return
    found["schemas compared"] += 1
    order, draws = SchemaOrder(case.schema), random.Random(_SEED)
    for instance in (*case.valid, *case.invalid):
        for written in order.texts(instance):
            for text in mutants(written, count, draws):
                found["texts"] += 1
                one = ours.matches(text)
                found["texts that we accept"] += one
                if printed.matches(text) < one:
                    yield "our matcher", text, verdict(case.schema, text)
                if theirs is not None and theirs.matches(text) != one:
                    yield "ours" if one else "theirs", text, verdict(case.schema, text)


def main() -> None:
    """Run the check that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", metavar="NAME", help="schemas whose names contain this")
    parser.add_argument("--mutations", type=int, default=6, help="of each text")
    args = parser.parse_args()
    found, lines = Counter[str](), []
    for case in read_cases(args.file, args.only):
        differing = set()  # kinds of differences, of which one is shown for each schema
        for who, text, judged in compare(case, args.mutations, found):
            found[f"accepted by {who} alone, {judged}"] += 1
            if (who, judged) not in differing:
                lines.append(f"{who} alone\t{judged}\t{case.name}\t{text[:300]}")
            differing.add((who, judged))
    print(*(f"{what}: {count:,}" for what, count in found.items()), sep="\n")
    print(*sorted(lines)[:_SHOWN], sep="\n")


if __name__ == "__main__":
    main()
