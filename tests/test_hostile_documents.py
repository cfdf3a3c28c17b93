"""Documents made to cost, to load something, or to break a reader: bounded in time and memory, or rejected by name."""

import random
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

pytest.importorskip("bm25s")
pytest.importorskip("pypdf")
pytest.importorskip("docx")
pytest.importorskip("pptx")
pytest.importorskip("openpyxl")
pytest.importorskip("bs4")

from edge.documents import PAGE_CHARACTERS, DocumentIndex
from runtime.cancellation import Cancellation
from runtime.documents.limits import DocumentLimits
from runtime.documents.reader import DocumentReader, read_document
from runtime.errors import Notice, RequestError

from .hostile_documents import hostile, paragraph, word

SHORT = DocumentLimits(seconds=1, kill_seconds=2)
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


class Listener:
    """A server that counts its connections: nobody has a reason to come."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.connections = 0
        Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                self._socket.accept()[0].close()
                self.connections += 1

    def close(self):
        self._socket.close()


class PeakMemory:
    """The most memory that the processes of a reader had, in bytes."""

    def __init__(self, reader):
        self._reader, self._end, self.peak = reader, Event(), 0
        self._thread = Thread(target=self._watch)
        self._thread.start()

    def _watch(self):
        while not self._end.wait(0.01):
            child = self._reader._child
            with suppress(OSError, AttributeError, StopIteration):
                lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
                kilobytes = next(line for line in lines if line.startswith("VmHWM")).split()[1]
                self.peak = max(self.peak, int(kilobytes) * 1024)

    def close(self):
        self._end.set()
        self._thread.join()


@pytest.mark.slow
def test_hostile_documents_are_read_or_rejected_within_their_limits():
    listener = Listener()
    results = {}
    with DocumentReader(SHORT) as reader:
        memory = PeakMemory(reader)
        try:
            for what, name, data in hostile(listener.url):
                start = time.monotonic()
                try:
                    found = reader.read((name, data))
                    assert len(found.text) < 10 * 2**20, what
                    assert "root:" not in found.text, what
                    results[what] = found.text[:20]
                except RequestError as exc:
                    results[what] = f"{exc}. {exc.hint}"
                assert time.monotonic() - start < 30, what
        finally:
            memory.close()
            listener.close()
    assert len(results) >= 39
    assert max(map(len, results.values())) < 400
    assert memory.peak < 500e6
    if sys.platform == "linux":
        assert memory.peak > 0
    assert listener.connections == 0
    assert results["macros"] == results["links out"] == "tide"
    assert "expands to 300," in results["a zip bomb"]
    assert "cyclic" in results["pages in a loop"]


def test_a_file_of_two_gigabytes_is_rejected_unread(tmp_path):
    path = tmp_path / "a.pdf"
    with path.open("wb") as file:
        file.truncate(2 * 2**30)
    with pytest.raises(RequestError, match=r"'a\.pdf' is larger than 64 MiB") as caught:
        read_document(path)
    assert "split it" in caught.value.hint


def test_reading_can_be_cancelled():
    cancellation = Cancellation()
    Thread(target=lambda: (time.sleep(0.5), cancellation.cancel())).start()
    start = time.monotonic()
    with DocumentReader(cancellation=cancellation) as reader, pytest.raises(RequestError, match="was cancelled"):
        reader.read(("a.html", b"<!--" * 300_000))
    assert time.monotonic() - start < 15


def test_a_reader_goes_on_after_a_document_that_ended_its_process():
    with DocumentReader(SHORT) as reader:
        with pytest.raises(RequestError, match="was not read within 2 seconds"):
            reader.read(("a.html", b"<!--" * 300_000))
        assert reader.read(("b.txt", b"The tide is high.")).text == "The tide is high."


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::runtime.errors.Notice")
def test_html_that_is_never_closed_ends(tmp_path):
    for name, piece in COSTLY.items():
        (tmp_path / f"{name}.html").write_text("<p>Tides</p>" + piece * (300_000 // len(piece)))
    (tmp_path / "z.txt").write_text("The tide is high.")
    assert DocumentIndex(tmp_path, limits=SHORT).open("z.txt")


def test_html_of_random_tags_is_read(tmp_path):
    chance = random.Random(3)
    pieces = ["<", ">", "</", "<p>", "</p>", "<title>", "<script>", "</script>", "&amp;", "<!--", "-->", "word ", "'"]
    for number in range(40):
        (tmp_path / f"{number}.html").write_text("tide <b>" + "".join(chance.choices(pieces, k=200)))
    assert len(DocumentIndex(tmp_path).pages) >= 40


def test_a_heading_without_end_is_cut(tmp_path):
    (tmp_path / "a.md").write_text("# " + "tide " * 200_000)
    (tmp_path / "b.html").write_text("<title>" + "tide " * 200_000 + "</title><p>high")
    found = DocumentIndex(tmp_path)
    assert max(len(page.title) for page in found.pages) <= 200
    assert max(len(page.place) for page in found.pages) <= 300


def test_a_large_text_is_read_to_its_bound(tmp_path):
    (tmp_path / "a.txt").write_text("tide\n" * 200_000)
    with pytest.warns(Notice, match=r"a.txt: only the first 500,000 characters were read"):
        found = DocumentIndex(tmp_path, limits=DocumentLimits(characters=500_000))
    assert sum(len(page.text) for page in found.pages) <= 500_000
    assert all(len(page.text) <= PAGE_CHARACTERS for page in found.pages)


def test_memory_is_bounded():
    with (
        pytest.raises(RequestError, match="needs more than 100 MiB of memory"),
        DocumentReader(DocumentLimits(memory=100 * 2**20)) as reader,
    ):
        reader.read(("a.docx", word("<w:p/>" * 5_000_000 + paragraph("tide"))))


@pytest.mark.parametrize("text", ["...", "_ _"])
def test_documents_without_a_word_are_searched(tmp_path, text):
    (tmp_path / "...md").write_text(text)
    (tmp_path / "a.html").write_text("<title>.</title>" + text)
    assert DocumentIndex(tmp_path).search("tide") == []
