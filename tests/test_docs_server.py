"""Every sentence of docs/server.md and docs/kiosk.md names the tests that fail when it is not true: in docs_server.txt
and docs_kiosk.txt, beside this file. So do those sentences of the README that are of the server and its tools, in
docs_readme.txt.

A paragraph of that file is a sentence, and indented below it the tests, `test_page.py::test_it_fits_a_phone`; `measured
benchmarks/soak.py` for a figure of another machine; or `no claim:` and why there is nothing to test (advice, what leads
to a list or a table). A row of a table and a block of code count as sentences; headings claim nothing.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from edge.server.page.kiosk import Kiosk

ROOT = Path(__file__).resolve().parents[1]
WHOLE = {"docs/server.md": "docs_server.txt", "docs/kiosk.md": "docs_kiosk.txt"}
TABLES = WHOLE | {"README.md": "docs_readme.txt"}
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`/*\[(])")  # of a sentence, and the beginning of another
_NO_CLAIM = "no claim: "
_MEASURED = "measured "


def sentences(markdown):
    """The sentences of a document, each in one line."""
    found = []
    for block in re.split(r"\n\s*\n", re.sub(r"^```.*?^```$", _folded, markdown, flags=re.M | re.S)):
        if block.startswith(("    ", "\x01")):
            found.append(" ".join(block.replace("\x01", " ").split()))
            continue
        for item in re.split(r"\n(?=- )", block):
            if item.startswith("#"):
                continue
            if item.startswith("|"):
                found += item.splitlines()[2:]
            else:
                found += _END.split(" ".join(item.removeprefix("- ").split()))
    return found


def _folded(match):
    """A block of code without empty lines, which would end it."""
    return "\x01" + re.sub(r"\n\s*", " ", match[0]).strip()


def table(name):
    """The tests of each sentence."""
    found = {}
    for paragraph in (Path(__file__).parent / name).read_text(encoding="utf-8").strip().split("\n\n"):
        sentence, *tests = paragraph.splitlines()
        assert sentence not in found, f"twice: {sentence}"
        assert tests, f"no test: {sentence}"
        assert all(test.startswith("    ") for test in tests), sentence
        found[sentence] = [test.strip() for test in tests]
    return found


@cache
def functions(file):
    tree = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("document", "name"), WHOLE.items())
def test_every_sentence_has_its_tests(document, name):
    known = table(name)
    missing = [
        sentence for sentence in sentences((ROOT / document).read_text(encoding="utf-8")) if sentence not in known
    ]
    assert not missing, f"add to tests/{name}, with the tests that show it:\n" + "\n".join(missing)


@pytest.mark.parametrize(("document", "name"), TABLES.items())
def test_every_sentence_of_a_table_is_in_its_document(document, name):
    gone = set(table(name)) - set(sentences((ROOT / document).read_text(encoding="utf-8")))
    assert not gone, f"no longer in {document}; take out of tests/{name}:\n" + "\n".join(gone)


@pytest.mark.parametrize("name", TABLES.values())
def test_every_test_that_is_named_is_there(name):
    for sentence, tests in table(name).items():
        for test in tests:
            if test.startswith(_MEASURED):
                assert (ROOT / test.removeprefix(_MEASURED)).is_file(), f"{test}\n{sentence}"
            elif test.startswith(_NO_CLAIM):
                assert len(tests) == 1, sentence
            else:
                file, _, function = test.partition("::")
                assert function in functions(file), f"{test}\n{sentence}"


SPLIT = {
    "# A heading": [],
    "One. `Two` is.\nThree (e.g. this): `a.b`, 1.5 and 3.\nFour! And five? Six": [
        "One.", "`Two` is.", "Three (e.g. this): `a.b`, 1.5 and 3.", "Four!", "And five?", "Six",
    ],
    "Such as:\n\n- **One.** Two\n  goes on.\n- Three.": ["Such as:", "**One.** Two goes on.", "Three."],
    "| a | b |\n|---|---|\n| `c` | One. Two. |\n| d | e |": ["| `c` | One. Two. |", "| d | e |"],
    "See:\n\n    edge serve\n    edge chat\n\n```toml\na = 1\n\nb = 2\n```\n\nEnd.": [
        "See:", "edge serve edge chat", "```toml a = 1 b = 2 ```", "End.",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("markdown", "wanted"), SPLIT.items())
def test_what_a_sentence_is(markdown, wanted):
    assert sentences(markdown) == wanted


def blocks(document, language=""):
    """The blocks of code of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    if language:
        return re.findall(rf"^```{language}[^\n]*\n(.*?)^```$", text, re.M | re.S)
    return re.findall(r"(?:^    .+\n)+", text, re.M)


def test_the_kiosk_of_the_document_is_one(tmp_path):
    (text,) = blocks("docs/kiosk.md", "toml")
    (tmp_path / "kiosk.toml").write_text(text, encoding="utf-8")
    kiosk = Kiosk.load(str(tmp_path / "kiosk.toml"))
    assert (kiosk.idle, kiosk.max_tokens, kiosk.language) == (60, 1024, "zh")
    for line in text.splitlines():  # each part is optional, and so are all of them
        (tmp_path / "kiosk.toml").write_text(line, encoding="utf-8")
        assert Kiosk.load(str(tmp_path / "kiosk.toml"))
