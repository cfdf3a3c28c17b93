"""Token ids over generated texts: those of tiktoken, by a checkpoint's tokenizer and by the converted folder's IR.

tests/test_tokenizer.py has chosen texts; here every kind of character stands next to every other.
"""

import random
import sys
import unicodedata
from itertools import product

import pytest

from convert.output.tokenizer import spell_out_white_space, unmergeable_words, write_tokenizer
from edge.demo import CHECKPOINT
from runtime.checkpoint.tokenizer import read_tokenizer

WHITE_SPACE = [chr(code) for code in range(sys.maxunicode) if chr(code).isspace()]  # U+001C to U+001F among them
NEARLY_BLANK = list("\u180e\u200b\u200c\u200d\u2060\ufeff\x00\x08\x1b\u00ad\u115f\u3164\uffa0")
PUNCTUATION = list("*_-,.!?'\"()[]{}<>|/\\#@$%&+=~`^:;，。！？、（）《》「」“”…—·¿«»")
DIGITS = list("0123456789٣५９½²Ⅷ〇")
LETTERS = [*list("aZéßſİıŁøЖяюѣאבعمकมก한글あカー你研究ǅʰªᾳﬁ𝔸𐐀"), "'s", "'LL", "'ſ", "e\u0301", "y\u0308"]
OTHERS = [
    "\U0001f389",
    "\U0001f1e8\U0001f1f3",
    "👩\u200d🚀",
    "☕️",
    "\ue000",
    "\U000f0000",
    "\u0378",
    "\ufffe",
    "\U0010ffff",
]


def one_of_each_category():
    """Three characters of each category of Unicode, from different blocks."""
    found = {}
    for code in [*range(0x3000), *range(0x3000, 0x20000, 37), *range(0xE0000, 0xE0200)]:
        if not 0xD800 <= code < 0xE000:
            found.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
    return [kind[i * (len(kind) - 1) // 2] for kind in found.values() for i in range(3)]


FRAMES = ["a{}b", "!{}x", "{}x{}", " {} y", "{}\n{}", "1{}2", "**{}**", "'{}s", "{0}{0}{0} ", "，{}。", "\r\n {}\t{}"]


def framed():
    characters = {*WHITE_SPACE, *NEARLY_BLANK, *PUNCTUATION, *DIGITS, *LETTERS, *OTHERS, *one_of_each_category()}
    return [frame.replace("{}", "{0}").format(c) for c, frame in product(sorted(characters), FRAMES)]


def generated(words, count, seed=18):
    """Texts of a few pieces each; among them words, each after and before anything."""
    drawn = random.Random(seed)
    kinds = (WHITE_SPACE, NEARLY_BLANK, PUNCTUATION, DIGITS, LETTERS, OTHERS, [" "], ["\n", "\r\n"], words, words)
    return ["".join(drawn.choice(drawn.choice(kinds)) for _ in range(drawn.randint(2, 9))) for _ in range(count)]


def surrounded(words):
    """Words in the places of running text, and after two punctuation marks of each kind."""
    places = [
        "**{}**",
        "（{}）",
        '"{}"',
        "«{}»",
        " {} ",
        "\n{}\n",
        "\u1680{}",
        "\u205f{}\u205f",
        "\u180e{}",
        "3{}4",
        "x{}",
        "{0}{0}",
    ]
    return [place.replace("{}", "{0}").format(word) for word in words for place in places] + [
        f"{first}{second}{word}" for word in words[:6] for first, second in product(PUNCTUATION, repeat=2)
    ]


def ir_ids(folder, texts):
    """The ids of the converted folder's tokenizer, in batches."""
    import openvino_genai as genai

    tokenizer = genai.Tokenizer(str(folder))
    for i in range(0, len(texts), 500):
        found = tokenizer.encode(texts[i : i + 500], add_special_tokens=False)
        for ids, mask in zip(found.input_ids.data, found.attention_mask.data.astype(bool), strict=True):
            yield ids[mask].tolist()


def differing(texts, wanted, found):
    return [(text, a, b) for text, a, b in zip(texts, wanted, found, strict=True) if a != b]


@pytest.fixture(scope="module")
def words(vocabulary):
    """Words that no merge leads to, some of the 893 of GLM-4's vocabulary."""
    found = sorted(word.strip() for word in unmergeable_words(vocabulary.source.tokenizer))
    return found[:: max(1, len(found) // 60)]


@pytest.mark.parametrize("kind", ["framed", "generated", "surrounded"])
def test_ids_are_those_of_tiktoken(vocabulary, words, kind):
    texts = {"framed": framed, "generated": lambda: generated(words, 6000), "surrounded": lambda: surrounded(words)}[
        kind
    ]()
    assert len(texts) > 1000
    wanted = [list(ids) for ids in vocabulary.encoding.encode_ordinary_batch(texts)]
    source = [e.ids for e in vocabulary.source.tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert differing(texts, wanted, source) == []
    assert differing(texts, wanted, ir_ids(vocabulary.folder, texts)) == []


@pytest.mark.parametrize(
    "text", ["a" * 9000, " " * 9000, "\n" * 9000, "!" * 9000, "你" * 9000, " \n" * 4000 + "x", "1" * 9000]
)
def test_long_runs(vocabulary, text):
    (found,) = ir_ids(vocabulary.folder, [text])
    assert found == vocabulary.source.encode(text) == vocabulary.encoding.encode_ordinary(text)


def test_the_embedded_checkpoint_s_ids(tmp_path):
    """Its IR against its own tokenizer.json, as `tokenizers` reads it."""
    source = read_tokenizer(CHECKPOINT, 2480)
    write_tokenizer(source, tmp_path)
    texts = [*framed(), *generated(["weather", "天气", "Однако"], 3000)]
    wanted = [e.ids for e in source.tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert differing(texts, wanted, ir_ids(tmp_path, texts)) == []


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        (r"\s+(?!\S)|\s*[\r\n]+", r"[W]+(?![^W])|[W]*[\r\n]+"),
        (r" ?[^\s\p{L}]+", r" ?[^W\p{L}]+"),
        (r"\[\s\]|\\s[\]\s]", r"\[[W]\]|\\s[\]W]"),
        (r"[\S]\S", r"[\S][^W]"),
        ("a|b", "a|b"),
    ],
)
def test_white_space_in_a_pattern_is_spelled_out(pattern, wanted):
    assert spell_out_white_space(pattern) == wanted.replace("W", r"\t-\r\x{85}\p{Z}")
