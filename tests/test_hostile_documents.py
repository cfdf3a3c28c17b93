"""Documents made to cost: read in bounded time and memory, or left out by name."""

import random
import time

import pytest

pytest.importorskip("bm25s")
pytest.importorskip("pypdf")

from edge import documents
from edge.documents import PAGE_CHARACTERS, DocumentIndex
from runtime.errors import Notice

COSTLY = {
    "comments": "<!--",
    "quotes": "<a b='",
    "declarations": "<!DOCTYPE [",
    "instructions": "<?",
    "ends": "</",
    "entities": "&#",
    "depth": "<div>",
    "sections": "<![CDATA[",
}


@pytest.mark.parametrize("piece", COSTLY.values(), ids=COSTLY.keys())
@pytest.mark.filterwarnings("ignore::runtime.errors.Notice")
def test_html_that_is_never_closed_ends(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(documents, "MAX_SECONDS", 0.5)
    (tmp_path / "a.html").write_text("<p>Tides</p>" + piece * (300_000 // len(piece)))
    (tmp_path / "b.txt").write_text("The tide is high.")
    start = time.monotonic()
    assert DocumentIndex(tmp_path).open("b.txt")
    assert time.monotonic() - start < 5


def test_html_of_random_tags_is_read(tmp_path):
    chance = random.Random(3)
    pieces = ["<", ">", "</", "<p>", "</p>", "<title>", "<script>", "</script>", "&amp;", "<!--", "-->", "word ", "'"]
    for number in range(40):
        (tmp_path / f"{number}.html").write_text("tide <b>" + "".join(chance.choices(pieces, k=200)))
    assert len(DocumentIndex(tmp_path).pages) >= 40


def test_a_heading_without_end_is_cut(tmp_path):
    (tmp_path / "a.md").write_text("# " + "tide " * 200_000)
    (tmp_path / "b.html").write_text("<title>" + "tide " * 200_000 + "</title>")
    found = DocumentIndex(tmp_path)
    assert max(len(page.title) for page in found.pages) <= 200


def test_a_large_text_is_read_to_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MAX_BYTES", 500_000)
    (tmp_path / "a.txt").write_text("tide\n" * 200_000)
    start = time.monotonic()
    with pytest.warns(Notice, match=r"only the first 500,000 bytes of a.txt are read"):
        found = DocumentIndex(tmp_path)
    assert time.monotonic() - start < 10
    assert sum(len(page.text) for page in found.pages) <= 500_000
    assert all(len(page.text) <= PAGE_CHARACTERS for page in found.pages)


@pytest.mark.parametrize("text", ["...", "_ _", "\0"])
def test_documents_without_a_word_are_searched(tmp_path, text):
    (tmp_path / "...md").write_text(text)
    (tmp_path / "a.html").write_text("<title>.</title>" + text)
    assert DocumentIndex(tmp_path).search("tide") == []
