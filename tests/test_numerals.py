"""Decimal numerals between bounds, held against exact arithmetic."""

from decimal import Decimal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runtime.errors import RequestError
from runtime.grammar.regular.automaton import automaton, matches
from runtime.grammar.regular.numerals import Bound, fractions, numerals, without_values

TEXTS = [
    f"{sign}{whole}{fraction}"
    for sign in ("", "-")
    for whole in ("0", "1", "2", "7", "9", "10", "12", "25", "99", "100", "101", "1000")
    for fraction in ("", ".0", ".5", ".25", ".250", ".99", ".01", ".001", ".75")
]

values = st.one_of(
    st.sampled_from(["0", "1", "-1", "10", "-10", "0.5", "-0.25", "99.99", "12", "100", "-100.01", "1E2", "1E-2"]),
    st.integers(-1100, 1100).map(str),
    st.integers(-110_000, 110_000).map(lambda hundredths: str(Decimal(hundredths) / 100)),
).map(Decimal)
bounds = st.one_of(st.none(), st.builds(Bound, values, st.booleans()))


def is_between(value, least, most):
    above = least is None or value > least.value or (value == least.value and not least.exclusive)
    below = most is None or value < most.value or (value == most.value and not most.exclusive)
    return above and below


@settings(max_examples=80, deadline=None)
@given(bounds, bounds)
def test_a_number_is_between_its_bounds(least, most):
    language = numerals(least, most)
    for text in TEXTS:
        assert matches(language, text) == is_between(Decimal(text), least, most), text


@settings(max_examples=60, deadline=None)
@given(bounds, bounds)
def test_an_integer_is_between_its_bounds(least, most):
    language = numerals(least, most, integer=True)
    for text in TEXTS:
        expected = "." not in text and is_between(Decimal(text), least, most)
        assert matches(language, text) == expected, text


STEPS = ["1", "2", "3", "10", "25", "100", "0.5", "0.25", "0.01", "1.5", "70", "99", "299", "9.9"]


@pytest.mark.parametrize("step", STEPS)
def test_multiples_of_a_step(step):
    language, others = numerals(steps=(Decimal(step),)), numerals(not_steps=(Decimal(step),))
    for text in TEXTS:
        is_multiple = Decimal(text) % Decimal(step) == 0
        assert matches(language, text) == is_multiple, text
        assert matches(others, text) == (not is_multiple), text


@settings(max_examples=30, deadline=None)
@given(bounds, st.sampled_from(STEPS[:8]).map(Decimal), st.sampled_from(STEPS[1:8]).map(Decimal), st.booleans())
def test_all_conditions_together(least, step, not_step, integer):
    excluded = (Decimal("25"), Decimal("-0.5"))
    language = numerals(least, integer=integer, steps=(step,), not_steps=(not_step,), excluded=excluded)
    for text in TEXTS:
        value = Decimal(text)
        expected = is_between(value, least, None) and value % step == 0 and value % not_step != 0
        expected = expected and value not in excluded and not (integer and "." in text)
        assert matches(language, text) == expected, text


@settings(max_examples=25, deadline=None)
@given(values, values, st.randoms(use_true_random=False))
def test_a_number_is_between_its_bounds_as_a_float_too(one, other, random):
    least, most = Bound(min(one, other), exclusive=True), Bound(max(one, other), exclusive=True)
    state = automaton(numerals(least, most))
    assume(state is not None)
    for _ in range(5):
        text, at = "", state
        while not at.accepts or (at.moves and random.random() < 0.95):
            ranges, at = random.choice(at.moves)
            text += chr(random.choice([ranges[0][0], ranges[-1][1]]))
        assert float(least.value) < float(text) < float(most.value), text


EXPONENTS = [(None, True), (Bound(Decimal(5)), False), (Bound(Decimal(0)), True), (Bound(Decimal(0), True), True)]


@pytest.mark.parametrize(("least", "expected"), EXPONENTS)
def test_an_exponent_stands_where_it_changes_nothing(least, expected):
    language = numerals(least)
    assert matches(language, "1.5e10") == matches(language, "1.5E-9") == expected
    assert not matches(language, "1.5e100")


INVALID = ["", "-", "+1", "01", "1.", ".5", "1e", "0x1", "1,0", "--1", "1.5.5", " 1", "NaN", "-00"]


@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_number_of_json(text):
    assert not matches(numerals(), text)
    assert not matches(numerals(integer=True), text)
    assert not matches(numerals(Bound(Decimal(-5)), steps=(Decimal("0.5"),)), text)


def test_numbers_that_are_no_integers():
    for text in TEXTS:
        assert matches(fractions(), text) == (Decimal(text) % 1 != 0), text


@pytest.mark.parametrize("value", ["0", "5", "-5", "2.5", "100", "1E+3", "-0"])
def test_numerals_without_a_value(value):
    language = without_values(numerals(), [Decimal(value)])
    for text in [*TEXTS, "5.000", "-0.0"]:
        assert matches(language, text) == (Decimal(text) != Decimal(value)), text
    assert not matches(language, "7e1")


REFUSED = [
    (lambda: numerals(Bound(Decimal("1e60"))), "more than 40 digits"),
    (lambda: numerals(most=Bound(Decimal("-1e60"))), "more than 40 digits"),
    (lambda: numerals(steps=(Decimal("1001"),)), "multipleOf 1001 is not supported"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_numbers_that_are_too_large(make, words):
    with pytest.raises(RequestError) as caught:
        make()
    assert words in str(caught.value)
    assert caught.value.hint
