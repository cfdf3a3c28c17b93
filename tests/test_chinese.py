"""The Chinese pages say what the English ones do: the same headings, blocks, commands, names, figures and links.

Sentences, comments and string literals are translated; everything else is equal, section by section. Commands may come
in another order within a section, because the Chinese pages name ModelScope first. tests/test_docs.py runs
the Python of both, and the commands of the English ones.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from .test_docs import blocks, command_lines

ROOT = Path(__file__).resolve().parents[1]
PAIRS = {
    "README.md": "README.zh.md",
    "docs/python.md": "docs/zh/python.md",
    "docs/quickstart.md": "docs/zh/quickstart.md",
    "docs/server.md": "docs/zh/server.md",
}
_MODELSCOPE = [
    "pip install modelscope",
    "modelscope download --model ZhipuAI/GLM-4-9B-0414 --local_dir ./GLM-4-9B-0414",
]
# Commands of the Chinese pages alone.
ADDED = {
    "README.md": _MODELSCOPE,
    "docs/quickstart.md": [
        "edge convert GLM-4-9B-0414 ./glm4-int4 --hub modelscope",
        "export HF_ENDPOINT=https://hf-mirror.com",
    ],
}
# Code spans of the Chinese pages alone.
ADDED_SPANS = {
    "README.md": {"HF_ENDPOINT", "ZhipuAI/", "zai-org/"},
    "docs/quickstart.md": {"HF_ENDPOINT", '$env:HF_ENDPOINT = "https://hf-mirror.com"', "ZhipuAI/", "edge models"},
}
_SHELLS = ("", "sh", "bash", "powershell")
_CHINESE = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def sections(name):
    """The sections of a page: the level of the heading (0 before the first), and the text up to the next heading."""
    found = [[0, ""]]
    fenced = False
    for line in read(name).splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if not fenced and (heading := re.match(r"(#+) ", line)):
            found.append([len(heading[1]), ""])
        else:
            found[-1][1] += line
    return found


def prose(text):
    """A section without its code blocks."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return re.sub(r"(?<=\n)\n(?: {4}.+\n)+", "\n", "\n\n" + text)


def code_spans(text):
    """The code spans of a section's prose, each in one line."""
    return {" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(text))}


def links(name):
    return [target for target, _ in _LINK.findall(read(name))]


def resolved(name, target):
    """The file that a link of page `name` leads to, relative to the root."""
    return (ROOT / name).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()


def same_tree(english, chinese):
    """Whether two syntax trees are equal, except for string literals that are Chinese in the second."""
    if isinstance(chinese, list):
        return len(english) == len(chinese) and all(map(same_tree, english, chinese))
    if type(english) is not type(chinese):
        return False
    if isinstance(chinese, ast.Constant):
        return english.value == chinese.value or (isinstance(chinese.value, str) and is_chinese(chinese.value))
    if isinstance(chinese, ast.JoinedStr) and any(is_chinese(part.value) for part in chinese.values if is_text(part)):
        fields = ([part for part in tree.values if not is_text(part)] for tree in (english, chinese))
        return same_tree(*fields)
    if isinstance(chinese, ast.AST):
        return all(same_tree(getattr(english, name), value) for name, value in ast.iter_fields(chinese))
    return english == chinese


def is_text(part):
    return isinstance(part, ast.Constant)


def is_chinese(text):
    return bool(_CHINESE.search(text))


def same_words(english, chinese):
    return len(english) == len(chinese) and all(
        one == other or is_chinese(other) for one, other in zip(english, chinese, strict=True)
    )


@pytest.fixture(params=PAIRS.items(), ids=PAIRS.values())
def pair(request):
    return request.param


def test_headings_are_of_the_same_levels(pair):
    english, chinese = ([level for level, _ in sections(name)] for name in pair)
    assert english == chinese


def test_sections_have_the_same_code_blocks(pair):
    """Python, TOML and the like are in the same order; commands have a test of their own."""
    for (_, english), (_, chinese) in zip(*map(sections, pair), strict=True):
        wanted, found = (
            [block for block in blocks(text) if block.language not in _SHELLS] for text in (english, chinese)
        )
        assert [(block.language, block.info) for block in wanted] == [(block.language, block.info) for block in found]
        for one, other in zip(wanted, found, strict=True):
            if one.language == "python":
                assert same_tree(ast.parse(one.text), ast.parse(other.text)), other.text
            else:
                assert one.text == other.text


def test_sections_have_the_same_commands(pair):
    added = [line.split() for line in ADDED.get(pair[0], ())]
    for (_, english), (_, chinese) in zip(*map(sections, pair), strict=True):
        wanted, found = (
            [words for block in blocks(text) if block.language in _SHELLS for words in command_lines(block.text)]
            for text in (english, chinese)
        )
        for words in found:
            if words in added:
                added.remove(words)
            else:
                match = next((command for command in wanted if same_words(command, words)), None)
                assert match, f"{words}: none of {wanted}"
                wanted.remove(match)
        assert wanted == []
    assert added == []


def test_sections_have_the_same_code_spans(pair):
    added = ADDED_SPANS.get(pair[0], set())
    for (_, english), (_, chinese) in zip(*map(sections, pair), strict=True):
        wanted, found = code_spans(english), code_spans(chinese)
        assert wanted - found == set(), "missing in Chinese"
        assert found - wanted - added == set(), "in Chinese alone"


def test_sections_have_the_same_figures(pair):
    for (_, english), (_, chinese) in zip(*map(sections, pair), strict=True):
        wanted, found = (
            Counter(re.findall(r"(?<![A-Za-z0-9_-])\d+(?:[.,]\d+)*", re.sub(r"`[^`]+`", "", prose(text))))
            for text in (english, chinese)
        )
        assert wanted == found


def test_tables_have_the_same_rows(pair):
    for (_, english), (_, chinese) in zip(*map(sections, pair), strict=True):
        wanted, found = (
            [line.count(" | ") for line in text.splitlines() if line[:1] == "|"] for text in (english, chinese)
        )
        assert wanted == found


def test_links_lead_to_the_same_pages_in_chinese_where_there_are_such(pair):
    english, chinese = pair
    wanted = {resolved(english, target) for target in links(english)} - {chinese}
    found = {resolved(chinese, target) for target in links(chinese)} - {english}
    assert {PAIRS.get(name, name) for name in wanted} == found
    assert [name for name in found if not (ROOT / name).exists()] == []


def test_a_chinese_page_leads_to_the_english_one(pair):
    english, chinese = pair
    assert english in [resolved(chinese, target) for target in links(chinese)]


def test_the_chinese_readme_is_for_five_minutes():
    assert len(read("README.zh.md").splitlines()) <= 120


@pytest.mark.parametrize(
    ("english", "chinese", "same"),
    [
        ("print('Hi')  # a", "print('你好')  # 一", True),
        ("print('Hi')", "print('Hello')", False),
        ("print(f'In {a}.')", "print(f'{a}里。')", True),
        ("print(f'In {a}.')", "print(f'{b}里。')", False),
        ("chat.send('Hi', a=1)", "chat.send('你好', a=2)", False),
    ],
)
def test_what_the_same_code_is(english, chinese, same):
    assert same_tree(ast.parse(english), ast.parse(chinese)) is same
