"""Regular languages: derivatives and automata, held against sets of short texts."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.grammar.regular import charset
from runtime.grammar.regular.automaton import automaton, has_words, longest, matches, states
from runtime.grammar.regular.language import (
    ANY,
    EMPTY,
    NOTHING,
    chars,
    complement,
    concat,
    intersection,
    minus,
    repeat,
    union,
    word,
    words,
)
from runtime.grammar.regular.multiples import multiples

LONGEST = 4
TEXTS = frozenset("".join(text) for length in range(LONGEST + 1) for text in product("abc", repeat=length))


def in_automaton(language, text):
    state = automaton(language)
    for character in text:
        state = state and state.next(ord(character))
    return bool(state and state.accepts)


def joined(left, right):
    return frozenset(one + other for one in left for other in right if len(one + other) <= LONGEST)


def repeated(texts, least, most):
    found, power = set(), frozenset([""])
    for count in range((most if most is not None else least + LONGEST) + 1):
        found |= power if count >= least else set()
        power = joined(power, texts)
    return frozenset(found)


# A language, and the texts of up to four characters that are in it.
leaves = st.one_of(
    st.sampled_from([(EMPTY, frozenset([""])), (NOTHING, frozenset()), (ANY, TEXTS)]),
    st.sets(st.sampled_from("abc"), min_size=1).map(
        lambda some: (chars(charset.chars("".join(some))), frozenset(some))
    ),
    st.sets(st.sampled_from(sorted(TEXTS)), min_size=1, max_size=4).map(lambda some: (words(some), frozenset(some))),
)


def combined(inner):
    pairs = st.tuples(inner, inner)
    counts = st.sampled_from([(0, None), (1, None), (0, 1), (2, 2), (1, 3), (0, 0)])
    return st.one_of(
        pairs.map(lambda two: (union(two[0][0], two[1][0]), two[0][1] | two[1][1])),
        pairs.map(lambda two: (intersection(two[0][0], two[1][0]), two[0][1] & two[1][1])),
        pairs.map(lambda two: (concat(two[0][0], two[1][0]), joined(two[0][1], two[1][1]))),
        pairs.map(lambda two: (minus(two[0][0], two[1][0]), two[0][1] - two[1][1])),
        inner.map(lambda one: (complement(one[0]), TEXTS - one[1])),
        st.tuples(inner, counts).map(lambda both: (repeat(both[0][0], *both[1]), repeated(both[0][1], *both[1]))),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(leaves, combined, max_leaves=6))
def test_a_language_has_the_texts_that_its_parts_say(case):
    language, texts = case
    assert {text for text in TEXTS if matches(language, text)} == texts
    assert {text for text in TEXTS if in_automaton(language, text)} == texts
    wider = language.widen()
    assert all(matches(wider, text) for text in texts)


@settings(max_examples=60, deadline=None)
@given(st.recursive(leaves, combined, max_leaves=5))
def test_every_state_of_an_automaton_can_end(case):
    first = automaton(case[0])
    if first is None:
        return
    everything = list(states(first))
    by_number = {id(state): state for state in everything}
    shortest = {number: 0 for number, state in by_number.items() if state.accepts}
    while True:
        more = {
            id(state): min(shortest[id(target)] for _, target in state.moves if id(target) in shortest) + 1
            for state in everything
            if id(state) not in shortest and any(id(target) in shortest for _, target in state.moves)
        }
        if not more:
            break
        shortest |= more
    assert {number: state.rest for number, state in by_number.items()} == shortest


def test_equal_languages_are_one_object():
    a, b = word("a"), word("b")
    assert union(a, b, word("cd")) is union(word("cd"), b, a, a)
    assert concat(a, concat(b, a)) is concat(concat(a, b), a)
    assert complement(complement(a)) is a
    assert intersection(a, ANY) is a
    assert union(a, ANY) is ANY


MULTIPLES = [(1, 0, 1), (3, 0, 3), (7, 0, 7), (25, 2, 0.25), (5, 1, 0.5), (12, 0, 12)]


@pytest.mark.parametrize(("divisor", "scale", "step"), MULTIPLES)
def test_multiples(divisor, scale, step):
    language = multiples(divisor, scale)
    for thousandth in range(0, 40_000, 125):
        text = f"{thousandth // 1000}.{thousandth % 1000:03}"
        assert matches(language, text) == (thousandth % round(step * 1000) == 0), text
    assert matches(language, str(divisor * 1001))


LENGTHS = [(word("abc"), 3), (words(["a", "abcd"]), 4), (EMPTY, 0), (ANY, None), (repeat(word("ab"), 1, 5), 10)]


@pytest.mark.parametrize(("language", "length"), LENGTHS)
def test_the_longest_text(language, length):
    assert longest(automaton(language)) == length


COUNTS = [(NOTHING, 0), (EMPTY, 1), (words(["a", "b", "cd"]), 3), (concat(words(["a", "b"]), words(["c", "d"])), 4)]


@pytest.mark.parametrize(("language", "count"), COUNTS)
def test_how_many_texts_there_are(language, count):
    assert has_words(language, count)
    assert not has_words(language, count + 1)


def test_long_languages_do_not_recurse():
    text = "ab" * 3000
    characters = [chars(charset.single(character)) for character in text]
    language = concat(concat(*characters), word("c"))
    assert matches(language, text + "c")
    assert automaton(language).rest == len(text) + 1
    optional = concat(*(repeat(character, 0, 1) for character in characters[:1500]))
    assert optional.borders() == {97, 98, 99}
    assert optional.derive(97).empty
