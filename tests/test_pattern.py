"""Regular expressions as languages, held against Python's `re` where both mean the same."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime.errors import RequestError
from runtime.grammar.regular.automaton import matches
from runtime.grammar.regular.pattern import matched, searched

atoms = st.sampled_from(
    ["a", "b", "-", ".", "[ab]", "[^a]", "[a-c]", r"\d", r"\w", r"\s", r"\-", r"\x61", "ab", "[-b]"]
)
quantifiers = st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,}", "*?", "{1}", "{0}"])


def combined(inner):
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        inner.map(lambda part: f"({part})"),
        st.tuples(inner, quantifiers).map(lambda both: f"(?:{both[0]}){both[1]}"),
        st.tuples(atoms, st.sampled_from(["*", "+", "?"])).map("".join),
    )


patterns = st.recursive(atoms, combined, max_leaves=8)
anchored = st.recursive(
    st.one_of(atoms, st.sampled_from(["^", "$", "^a", "b$", "(^|b)", "(a|$)"])), combined, max_leaves=6
)
texts = st.lists(st.text("ab-1 ", max_size=6), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(patterns, texts)
def test_a_text_matches_as_in_re(pattern, some):
    language = matched(pattern)
    for text in some:
        assert matches(language, text) == bool(re.fullmatch(pattern, text, re.ASCII)), (pattern, text)


@settings(max_examples=300, deadline=None)
@given(anchored, texts)
@example("(^a|b)*$", ["", "ba", "ab", "bb", "aab"])
@example("a^b|$a|^$", ["", "a", "ab"])
@example("(?:^|,)a(?:,|$)", ["a", ",a,", "ba", "b,a"])
def test_a_match_is_found_as_in_re(pattern, some):
    language = searched(pattern)
    for text in some:
        assert matches(language, text) == bool(re.search(pattern, text, re.ASCII)), (pattern, text)


LOOK_AHEADS = [
    (r"^(?=.*\d)(?=.*a).{3,}$", ["a1b", "11a", "b1a-", "a1", "ab-", "111"]),
    (r"^(?!ab).*$", ["", "a", "ab", "abb", "bab"]),
    (r"^a(?!b)", ["a", "ab", "aa", "ba"]),
    (r"a(?=b|$)", ["a", "ab", "aa", "ac", "acab"]),
    (r"^(?!.*--)[a-b-]+$", ["a-b", "a--b", "--", "-"]),
    (r"(?!^a$)^[ab]+$", ["a", "b", "aa"]),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "some"), LOOK_AHEADS)
def test_look_aheads(pattern, some):
    language = searched(pattern)
    assert [text for text in some if matches(language, text)] == [text for text in some if re.search(pattern, text)]


# What JavaScript's syntax means where Python's is another.
ECMA = [
    (r"[\]a]", ["]", "a"], ["b"]),
    (r"[^]", ["a", "\n"], [""]),
    (r"[]|a", ["a"], ["", "]"]),
    (r"\cJ", ["\n"], ["J"]),
    (r"\u0041\u{1F600}\x42", ["A\U0001f600B"], ["A"]),
    (r"\ud83d\ude00", ["\U0001f600"], ["\ude00"]),
    (r"[\b]", ["\b"], ["b"]),
    (r"\/\.\-", ["/.-"], ["/x-"]),
    (r"a{,2}", ["a{,2}"], ["", "aa"]),
    (r"a{b", ["a{b"], ["a"]),
    (r"x]}", ["x]}"], ["x"]),
    (r"\d", ["1"], ["\u0661"]),
    (r"\s", ["\u3000", "\ufeff", "\v"], ["\u200b", "\x1c"]),
    (r".", ["é", "\x85"], ["\n", "\u2028", "\r"]),
    (r"\p{Lu}\p{L}\P{L}", ["Éß1"], ["éß1", "Éßa"]),
    (r"(?<year>\d{4})(?P<month>\d\d)", ["202601"], ["2026"]),
    (r"[a-\d]", ["a", "-", "5"], ["b"]),
    (r"[\w.-]+", ["a.b-c"], ["a b"]),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "good", "bad"), ECMA, ids=[row[0] for row in ECMA])
def test_patterns_are_those_of_javascript(pattern, good, bad):
    language = matched(pattern)
    assert all(matches(language, text) for text in good)
    assert not any(matches(language, text) for text in bad)


REFUSED = [
    (r"(a", "has a ( without a )"),
    (r"a)", "has a ) without a ("),
    (r"[a", "has a [ without a ]"),
    (r"*a", "has a * with nothing to repeat"),
    (r"a|+", "has a + with nothing to repeat"),
    (r"a**", "has a * with nothing to repeat"),
    (r"a{2}{3}", "has a {3} with nothing to repeat"),
    (r"^*", "has a * with nothing to repeat"),
    (r"a++", "has a + with nothing to repeat"),
    (r"[b-a]", "has a range that ends before it begins"),
    (r"a{3,2}", "has a count that ends before it begins"),
    (r"a{99999999999}", "repeats more than 3,000 times"),
    (r"a{3001}", "repeats more than 3,000 times"),
    ("a\\", "ends with a backslash"),
    (r"\ba", r"has a \b, which is not supported"),
    (r"(a)\1", r"has a \1, which is not supported"),
    (r"(?<=a)b", "has a (?< group, which is not supported"),
    (r"(?<!a)b", "has a (?< group, which is not supported"),
    (r"(?i)a", "has a (?i group, which is not supported"),
    (r"(a(?=b))c", "has a look-ahead inside a group"),
    (r"\p{Script=Greek}", r"has a \p, which is not supported"),
    (r"\p{Nope}", "has the property Nope, which is not supported"),
    ("(" * 70 + ")" * 70, "is nested too deeply"),
]


@pytest.mark.parametrize(("pattern", "words"), REFUSED, ids=[row[0][:20] for row in REFUSED])
def test_what_is_not_supported_is_rejected_by_name(pattern, words):
    for read in (matched, searched):
        with pytest.raises(RequestError) as caught:
            read(pattern)
        assert words in str(caught.value)
        assert caught.value.hint


LONG = [
    "(" + "ab" * 2000 + ")c",
    "(?:a?" + "b?" * 1500 + ")c",
    "|".join(f"word{n}" for n in range(2000)),
    "^" + "a" * 3000 + "$",
]


@pytest.mark.parametrize("pattern", LONG, ids=["a group", "optional characters", "alternatives", "characters"])
def test_long_patterns_do_not_recurse(pattern):
    language = matched(pattern)
    assert not matches(language, "x")
    assert language.borders()
