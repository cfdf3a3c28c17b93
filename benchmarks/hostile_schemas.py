"""CPU seconds in which schemas that were written to be expensive become grammars, or are refused.

    python -m benchmarks.hostile_schemas [--only NAME]

Prints, for each, what became of it, the CPU seconds to compile it and to print it as EBNF, those in which the matcher
reads some texts, and the memory that it takes.
"""

import argparse
import json
import time
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from math import prod
from typing import Any

import psutil

from benchmarks.peers_report import markdown_table
from runtime.errors import RequestError
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher
from runtime.grammar.printers.ebnf import to_ebnf

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)


def nested(depth: int, wrap: Callable[[Any], Any], inner: Any) -> Any:
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def doubling(levels: int, combine: Callable[[Any], Any]) -> Any:
    """Return a schema in which each level refers twice to the next: 2 to the power of `levels` paths."""
    defs = {f"d{n}": combine({"$ref": f"#/$defs/d{n + 1}"}) for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{levels}": {"type": "string", "maxLength": 3}}}


def pairs(count: int) -> list[Any]:
    """Return `count` independent choices between two required properties."""
    return [{"anyOf": [{"required": [f"a{n}"]}, {"required": [f"b{n}"]}]} for n in range(count)]


def rings(lengths: tuple[int, ...]) -> Any:
    """Return a conjunction of linked lists that repeat with different periods: their product is the period of all."""
    defs = {
        f"r{length}_{n}": {
            "properties": {"next": {"$ref": f"#/$defs/r{length}_{(n + 1) % length}"}, f"p{length}": {"const": n}}
        }
        for length in lengths
        for n in range(length)
    }
    return {"type": "object", "allOf": [{"$ref": f"#/$defs/r{length}_0"} for length in lengths], "$defs": defs}


def text(pattern: str, **keywords: Any) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern, **keywords}


def texts(*patterns: str) -> dict[str, Any]:
    return {"allOf": [text(pattern) for pattern in patterns]}


def strings(count: int, **keywords: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {f"property_{n}": {"type": "string"} for n in range(count)}, **keywords}


SCHEMAS: dict[str, Callable[[], Any]] = {
    # Combinations that multiply.
    "allOf of 30 choices": lambda: {"type": "object", "allOf": pairs(30)},
    "not of allOf of 30 choices": lambda: {"not": {"type": "object", "allOf": pairs(30)}},
    "not of anyOf of 20 conjunctions": lambda: {
        "not": {"anyOf": [{"properties": {f"p{n}": {"type": "string"}}, "required": [f"p{n}"]} for n in range(20)]}
    },
    "allOf doubled 60 times": lambda: doubling(60, lambda ref: {"allOf": [ref, dict(ref)]}),
    "anyOf doubled 60 times": lambda: doubling(60, lambda ref: {"anyOf": [ref, dict(ref)]}),
    "oneOf doubled 40 times": lambda: doubling(40, lambda ref: {"oneOf": [ref, {"type": "array", "items": ref}]}),
    "not doubled 60 times": lambda: doubling(60, lambda ref: {"not": {"anyOf": [ref, dict(ref)]}}),
    "properties doubled 60 times": lambda: doubling(60, lambda ref: {"properties": {"a": ref, "b": ref}}),
    "items doubled 60 times": lambda: doubling(60, lambda ref: {"prefixItems": [ref, ref], "minItems": 2}),
    "oneOf of 400 overlapping objects": lambda: {
        "oneOf": [{"type": "object", "properties": {f"p{n}": {"type": "string"}}} for n in range(400)]
    },
    "oneOf of 400 objects told apart by a constant": lambda: {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": n}, f"p{n}": {"type": "null"}}, "required": ["kind"]}
            for n in range(400)
        ]
    },
    "oneOf of 60 patterns": lambda: {"oneOf": [text(f"^[a-{chr(98 + n % 25)}]{{{n}}}x") for n in range(60)]},
    "oneOf in oneOf, 12 levels": lambda: nested(12, lambda s: {"oneOf": [s, {"not": s}]}, {"type": "string"}),
    "a chain of 40 if": lambda: {
        "allOf": [
            {"if": {"required": [f"p{n}"]}, "then": {"required": [f"q{n}"]}, "else": {"minProperties": n}}
            for n in range(40)
        ]
    },
    "40 dependent schemas": lambda: strings(
        40, dependentSchemas={f"property_{n}": {"required": [f"property_{n ^ 1}"]} for n in range(40)}
    ),
    "rings of prime lengths": lambda: rings(_PRIMES),
    "minProperties 500 of 1,000": lambda: strings(1000, minProperties=500, additionalProperties=False),
    "maxProperties 50 of 100": lambda: strings(100, maxProperties=50, additionalProperties=False),
    "60 overlapping patternProperties": lambda: {
        "patternProperties": {f"[{chr(97 + n % 26)}-z].{{{n}}}": {"maxLength": n} for n in range(60)},
        "additionalProperties": False,
    },
    "1,000 properties beside 50 patternProperties": lambda: strings(
        1000, patternProperties={f"_{n}$": {"maxLength": n} for n in range(50)}
    ),
    "200 distinct items in any order": lambda: {
        "type": "array", "items": {"enum": list(range(200))}, "uniqueItems": True, "minItems": 200
    },
    "contains 1,000 times": lambda: {"type": "array", "contains": {"const": 1}, "minContains": 1000},
    # References.
    "$ref to itself": lambda: {"$ref": "#"},
    "a circle of $ref": lambda: {
        "$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}
    },
    "allOf of itself": lambda: {"allOf": [{"$ref": "#"}]},
    "anyOf of itself": lambda: {"anyOf": [{"$ref": "#"}, {"type": "string"}]},
    "not itself": lambda: {"not": {"$ref": "#"}},
    "an object that requires itself": lambda: {
        "type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]
    },
    "a conjunction that grows with each level": lambda: {
        "properties": {"a": {"allOf": [{"$ref": "#"}, {"properties": {"b": {"$ref": "#/properties/a"}}}]}}
    },
    "a chain of 10,000 $ref": lambda: {
        "$ref": "#/$defs/d0",
        "$defs": {**{f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(10_000)}, "d10000": {"type": "string"}},
    },
    "a $ref that is no pointer": lambda: {"$ref": "#/%zz/~9"},
    "a $ref into a constant": lambda: {"enum": [{"type": "string"}], "$ref": "#/enum/0"},
    # Counts and numbers.
    "minItems 10⁹": lambda: {"type": "array", "items": {"type": "string"}, "minItems": 10**9},
    "maxItems 10¹⁸": lambda: {"type": "array", "items": {"type": "string"}, "maxItems": 10**18},
    "counts in ten levels of lists": lambda: nested(
        10, lambda s: {"type": "array", "items": s, "minItems": 999, "maxItems": 1000}, {"type": "null"}
    ),
    "100,000 prefixItems": lambda: {"type": "array", "prefixItems": [{"type": "string"}] * 100_000},
    "minLength 10⁹": lambda: {"type": "string", "minLength": 10**9},
    "maxLength 10¹²": lambda: {"type": "string", "maxLength": 10**12},
    "minLength 5,000 beside a pattern": lambda: text("^(ab|cd)*$", minLength=5000),
    "minProperties 10⁹": lambda: {"type": "object", "minProperties": 10**9},
    "minimum 10⁵⁰⁰⁰": lambda: {"type": "integer", "minimum": 10**5000},
    "an integer between numbers of 2,000 digits": lambda: {
        "type": "integer", "minimum": prod(_PRIMES) ** 230, "maximum": prod(_PRIMES) ** 231
    },
    "multipleOf a large prime": lambda: {"type": "integer", "multipleOf": 2**61 - 1},
    "multipleOf 10³⁰⁰": lambda: {"type": "integer", "multipleOf": 10**300},
    "multipleOf 10⁻³⁰⁰": lambda: {"type": "number", "multipleOf": 1e-300},
    "multipleOf several primes": lambda: {"allOf": [{"type": "integer", "multipleOf": p} for p in (97, 101, 103, 107)]},
    "multipleOf 9,973 within bounds": lambda: {
        "type": "integer", "multipleOf": 9973, "minimum": -(10**15), "maximum": 10**15
    },
    # Patterns.
    "(a|a)*": lambda: text("^(a|a)*$"),
    "(x+x+)+y": lambda: text("^(x+x+)+y$"),
    "counts in counts": lambda: text("^((a{0,50}){0,50}){0,50}$"),
    "a?{500}a{500}": lambda: text("^(?:a?){500}a{500}$"),
    "[^x]{0,3000}": lambda: text("^[^x]{0,3000}$"),
    "[^x]{0,3000} and others": lambda: texts("^[^x]{0,3000}$", "^[^y]{7,2900}$", "^(..)*$", "^(...)*$"),
    "the 30th character from the end": lambda: text("a.{30}$"),
    "the 200th character from the end, twice": lambda: texts("a.{200}$", "b.{199}$"),
    "ten patterns somewhere": lambda: texts(*(f"{chr(97 + n)}[^z]*b.{{{n}}}c" for n in range(10))),
    "a pattern of 20,000 words": lambda: text("^(" + "|".join(f"word{n * 7919}" for n in range(20_000)) + ")$"),
    "a pattern with 5,000 brackets": lambda: text("(" * 5000 + "a" + ")" * 5000),
    "a pattern of 100,000 characters": lambda: text("^" + "ab?" * 33_000 + "$"),
    "a class of 5,000 characters, counted": lambda: text(
        "^[" + "".join(chr(0x4E00 + 2 * n) for n in range(5000)) + "]{1,500}$"
    ),
    "a{10⁹}": lambda: text("a{1000000000}"),
    "a back reference": lambda: text(r"^(a+)\1$"),
    "look-ahead": lambda: text("^(?=.*a)(?=.*b)(?!.*c).*$"),
    "propertyNames beside 1,000 properties": lambda: strings(1000, propertyNames=text("^(p|q).{0,30}[0-9]$")),
    # Size.
    "10,000 constants": lambda: {"enum": [f"a constant, number {n}" for n in range(10_000)]},
    "10,000 constants beside a pattern": lambda: {"enum": [f"v{n}" for n in range(10_000)], **text("^v.*7$")},
    "10,000 constants, twice": lambda: {
        "allOf": [{"enum": list(range(10_000))}, {"enum": list(range(5000, 15_000))}]
    },
    "not 10,000 constants": lambda: {"type": "string", "not": {"enum": [f"v{n}" for n in range(10_000)]}},
    "a constant of a million characters": lambda: {"const": "é" * 1_000_000},
    "a constant of 3,000 levels": lambda: {"const": nested(3000, lambda v: [v], 1)},
    "5,000 properties": lambda: strings(5000),
    "5,000 required properties": lambda: strings(5000, required=[f"property_{n}" for n in range(5000)]),
    "5,000 properties with enums": lambda: {
        "type": "object", "properties": {f"p{n}": {"enum": [f"v{n}", n, None]} for n in range(5000)}
    },
    "anyOf of 5,000 types": lambda: {"anyOf": [{"type": "string", "maxLength": n} for n in range(5000)]},
    "1,000 date-times": lambda: {
        "type": "object", "properties": {f"p{n}": {"format": "date-time", "maxLength": 10 + n} for n in range(1000)}
    },
    # Depth.
    "properties, 5,000 levels": lambda: nested(5000, lambda s: {"properties": {"a": s}}, {"type": "string"}),
    "items, 5,000 levels": lambda: nested(5000, lambda s: {"type": "array", "items": s}, {}),
    "anyOf, 5,000 levels": lambda: nested(5000, lambda s: {"anyOf": [s]}, {"type": "string"}),
    "allOf, 5,000 levels": lambda: nested(5000, lambda s: {"allOf": [s, {}]}, {"type": "string"}),
    "not, 5,001 levels": lambda: nested(5001, lambda s: {"not": s}, {"type": "string"}),
    "properties, 100,000 levels": lambda: nested(100_000, lambda s: {"properties": {"a": s}}, {"type": "string"}),
}  # fmt: skip

# What no grammar can take long to read: the matcher stops at the first character that it refuses.
TEXTS = ('"' + "a" * 1000 + '"', '"' + "xy" * 500, "[" * 300, '{"a": ' * 100, "1" * 500, '{"next": ' * 50)


def to_json(value: Any) -> str:
    """Return a schema of any depth, with integers of any size, as JSON."""
    written: list[str] = []
    todo: list[Any] = [value]
    while todo:
        match todo.pop():
            case (str() as text,):  # as it is
                written.append(text)
            case dict() as members:
                todo.append(("}",))
                for place, (name, member) in enumerate(reversed(members.items()), 1 - len(members)):
                    todo += [member, (f"{',' * (place < 0)}{json.dumps(name)}:",)]
                written.append("{")
            case list() as items:
                todo.append(("]",))
                for place, item in enumerate(reversed(items), 1 - len(items)):
                    todo += [item, ("," * (place < 0),)]
                written.append("[")
            case bool() | None | str() | float() as leaf:
                written.append(json.dumps(leaf))
            case number:
                written.append(str(Decimal(number)))
    return "".join(written)


def feed(matcher: Matcher, written: str) -> int:
    """Feed a text in pieces of the size of tokens. Return how many characters were taken."""
    taken = 0
    for start in range(0, len(written), 4):
        piece = written[start : start + 4]
        took = matcher.feed(piece)
        taken += took
        if took < len(piece):
            break
    return taken


def measure(name: str) -> tuple[str, ...]:
    """Return a row of the table: what became of a schema, and its cost."""
    schema = SCHEMAS[name]()
    process = psutil.Process()
    memory = process.memory_info().rss
    times = [time.process_time()]
    outcome = "a grammar"
    try:
        tree = compile_schema(schema)
        times.append(time.process_time())
        ebnf = to_ebnf(tree)
        times.append(time.process_time())
        outcome += f" of {len(ebnf.text):,} characters" + (", wide" if ebnf.wide else "")
        for written in TEXTS:
            feed(Matcher(tree), written)
    except RequestError as exc:
        outcome = f"refused: {str(exc)[:90]}"
    except Exception as exc:  # a failure is a finding  # noqa: BLE001
        outcome = f"FAILED: {type(exc).__name__}: {str(exc)[:90]}"
    times.append(time.process_time())
    costs = [f"{end - begin:.2f}" for begin, end in pairwise(times)]
    return name, *costs, *["–"] * (3 - len(costs)), f"{(process.memory_info().rss - memory) >> 20}", outcome


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAME", help="schemas whose names contain this")
    args = parser.parse_args()
    print(markdown_table(("schema", "CPU-s to compile", "to print", "to match", "MB", "outcome"), []), end="")
    for name in SCHEMAS:
        if args.only in name:
            print(f"| {' | '.join(measure(name))} |", flush=True)


if __name__ == "__main__":
    main()
