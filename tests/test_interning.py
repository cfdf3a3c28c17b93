"""Interned objects: one for equal arguments, in every thread, and none of them for longer than somebody needs it."""

import gc
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from runtime.grammar import interning
from runtime.grammar.grammar import JsonSchema, Regex, _tree, to_tree
from runtime.grammar.interning import Interned, intern
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher
from runtime.grammar.regular.automaton import automaton
from runtime.grammar.regular.language import words
from runtime.grammar.regular.pattern import matched, searched

pytestmark = pytest.mark.slow

THREADS = 8


class Pair(Interned):
    __slots__ = ("one", "other")

    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other


@pytest.fixture
def quick_switches():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def in_threads(work):
    """Return what `work` returns in each of some threads that begin at the same time."""
    barrier = Barrier(THREADS)

    def begin(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


def schema(number):
    name = {"type": "string", "pattern": f"^[a-z]{{1,{number % 7 + 3}}}(-{number})?$"}
    properties = {f"name{number}": name, "size": {"type": "number", "multipleOf": 0.25, "maximum": number}}
    return {"type": "object", "properties": properties, "additionalProperties": {"enum": [number, "x"]}}


def text(number):
    return json.dumps({f"name{number}": f"abc-{number}", "size": -1.75, "other": number})


def test_equal_arguments_make_one_object_in_all_threads(quick_switches):
    for number in range(60):
        made = in_threads(lambda _, number=number: intern(Pair, "x", number))
        assert len({id(one) for one in made}) == 1


def test_an_automaton_is_complete_before_another_thread_sees_it(quick_switches):
    for number in range(3):
        language = matched(f"([a-f]{{3}}|xyz|{number}){{3,200}}d")

        def read(_, language=language, number=number):
            state = automaton(language)
            for character in f"abcxyz{number}defd":
                state = state and state.next(ord(character))
            return bool(state and state.accepts)

        assert all(in_threads(read))


def test_threads_compile_and_match_at_once(quick_switches):
    def compile_and_match(thread):
        found = []
        for number in [7, 8, 100 + thread]:
            matcher = Matcher(compile_schema(schema(number)))
            good = text(number)
            found.append(matcher.feed(good) == len(good) and matcher.complete)
            bad = good.replace("-1.75", "-1.8")
            found.append(Matcher(compile_schema(schema(number))).feed(bad) == bad.index("8,"))
        return found

    assert all(all(found) for found in in_threads(compile_and_match))


def test_what_nobody_needs_is_freed():
    def count():
        for cache in (_tree, matched, searched):
            cache.cache_clear()
        gc.collect()
        return len(interning._made)

    before = count()
    for number in range(20):
        matcher = Matcher(to_tree(JsonSchema.from_schema(schema(number + 5000))))
        assert matcher.feed(text(number + 5000))
        matcher = Matcher(to_tree(Regex(f"[a-z]+-{number}")))
    assert len(interning._made) > before + 100
    del matcher
    assert count() <= before


def test_an_object_keeps_its_identity_while_it_is_needed():
    kept = words(["a", "b"])
    gc.collect()
    assert words(["b", "a", "a"]) is kept
