"""Documents of a chat: whole where they fit, searched where they do not, each fact with its place."""

import asyncio
import io
import os
import sys
from threading import Timer

import pytest

pytest.importorskip("bm25s")
pytest.importorskip("pypdf")
pytest.importorskip("docx")
pytest.importorskip("pptx")
pytest.importorskip("openpyxl")
pytest.importorskip("bs4")

import edge
from edge.cli import main, parser
from edge.cli.config_flags import load_config
from edge.cli.serve import server_settings
from edge.documents import DocumentIndex, open_folder
from runtime.backends.echo import Echo
from runtime.documents.attachment import MAX_PASSAGES, attach
from runtime.documents.document import Document, Section
from runtime.documents.reader import DocumentReader
from runtime.documents.split import split
from runtime.tool_output import to_output

from .encoders import write_embedding_model
from .sample_documents import pdf, samples, saved

ROOM = {"room": 10_000, "count_tokens": len}


def read(name, text):
    with DocumentReader() as reader:
        return reader.read((name, text.encode() if isinstance(text, str) else text))


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
@pytest.mark.parametrize("mode", ["whole", "searched"])
def test_a_fact_is_in_the_prompt_and_its_place_is_cited(bare_folder, sample, mode):
    engine = Echo(["\nYes."], max_prompt_tokens=100_000 if mode == "whole" else 4_500)
    with edge.Chat(edge.Model(bare_folder, backend=engine)) as chat:
        reply = chat.send(sample.question, documents=[(sample.name, sample.data)])
    prompt = "".join(engine.requests[0].prompt)
    assert sample.fact in prompt
    (found,) = [one for one in reply.citations if sample.fact in one.text]
    assert (found.document, found.place[: len(sample.place)]) == (sample.name, sample.place)
    assert bool(found.number) == (mode == "searched")
    before, _, _ = prompt.partition(sample.fact)
    place = found.place if mode == "searched" else sample.place.partition(", ")[0]
    assert before.rfind(place) > before.rfind(f"[{found.number + 1}] ")
    assert f"[File Name]\n{sample.name}\n[File Content]\n" in before
    assert prompt.count("1 files uploaded.\n" + sample.question) == 1
    if mode == "searched":
        assert f"[{found.number}] {found.place}\n" in before
        assert len(prompt) <= 4_500
        assert len(reply.citations) <= MAX_PASSAGES


def test_whole_documents_are_laid_out_as_upstream_does():
    """THUDM/GLM-4, composite_demo: FILE_TEMPLATE of src/conversation.py, the message of src/main.py."""
    documents = [Document("a.txt", (Section("", "One.", "line"),)), Document("b.md", (Section("B", "# B\nTwo."),))]
    expected = (
        "[File Name]\na.txt\n[File Content]\nOne.\n\n[File Name]\nb.md\n[File Content]\n# B\nTwo."
        "\n\n\n2 files uploaded.\nWhat?"
    )
    assert attach("What?", documents, **ROOM).content == expected


def test_what_does_not_fit_is_searched_beside_what_does():
    long = Document("long.pdf", tuple(Section(f"page {n}", f"Barrel {n}. " * 40) for n in range(1, 40)))
    short = Document("short.txt", (Section("", "Salt is dear.", "line"),))
    found = attach("Where is barrel 17?", [long, short], room=3000, count_tokens=len)
    assert "short.txt\n[File Content]\nSalt is dear.\n" in found.content
    assert any(one.place == "page 17" and one.number for one in found.citations)
    assert len(found.content) < 3300


def test_a_question_without_a_match_gets_the_beginnings():
    long = Document("long.pdf", tuple(Section(f"page {n}", f"Barrel {n}. " * 40) for n in range(1, 40)))
    found = attach("Xylophone?", [long], room=2000, count_tokens=len)
    assert [one.place for one in found.citations][:2] == ["page 1", "page 2"]
    assert "No passage of the file matches the question. It begins:" in found.content


@pytest.mark.parametrize("room", [-5, 0, 30])
def test_without_room_the_message_says_so(room):
    found = attach(
        "Barrel?", [Document("a.txt", (Section("", "Barrel. " * 400, "line"),))], room=room, count_tokens=len
    )
    assert found.citations == ()
    assert "a.txt" in found.content


def test_meaning_is_searched_with_an_embedding_model(bare_folder, tmp_path):
    folder = edge.adopt(write_embedding_model(tmp_path / "embed"))
    text = "\n\n".join(f"# {word}\n\n" + f"the {word} is . " * 30 for word in ("ship", "sun", "rain", "harbour"))
    engine = Echo(["\nYes."], max_prompt_tokens=2_800)
    with edge.Chat(edge.Model(bare_folder, backend=engine), embedding_model=folder.path) as chat:
        reply = chat.send("sun", documents=[("a.md", text.encode())])
        chat.send("rain", documents=[("a.md", text.encode())])
    assert "sun" in {one.place.partition(",")[0] for one in reply.citations}


def test_the_event_comes_first_and_the_history_keeps_the_message(bare_folder):
    with edge.Chat(edge.Model(bare_folder, backend=Echo(["\nAt noon."]))) as chat:
        events = list(chat.stream("When?", documents=[("a.md", b"# Ferries\n\nAt noon.")]))
        assert isinstance(events[0], edge.Documents)
        assert events[0].citations == (edge.Citation("a.md", "Ferries, lines 1-3", "# Ferries\n\nAt noon."),)
        assert chat.history[0].content == events[0].content


def test_asyncio_goes_on_while_documents_are_read(bare_folder):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        counting = asyncio.create_task(tick())
        async with edge.AsyncChat(edge.Model(bare_folder, backend=Echo(["\nAt noon."]))) as chat:
            reply = await chat.send("When?", documents=[("a.md", b"At noon.")])
        counting.cancel()
        return reply, ticks

    reply, ticks = asyncio.run(main())
    assert reply.citations[0].place == "line 1"
    assert ticks > 3


def test_reading_is_cancelled_like_a_reply(bare_folder):
    with edge.Chat(edge.Model(bare_folder, backend=Echo(["\nHello."]))) as chat:
        Timer(1, chat.cancel).start()
        events = list(chat.stream("When?", documents=[("a.html", b"<!--" * 300_000)]))
        assert events == [edge.Finish("cancelled")]
        assert chat.history == ()
        assert chat.send("Hi").text == "Hello."


ENCODINGS = {
    "utf-8-sig": "Die Fähre",
    "utf-16": "Die Fähre",
    "utf-16-le": "The ferry leaves at noon",
    "utf-32": "渡轮",
    "cp1252": "Die Fähre fährt täglich über den Sund – für zwölf Kronen",
    "cp1251": "Привет мир, как дела сегодня? Паром уходит в полдень",
    "gbk": "月亮影响潮汐，满月时潮水最高。渡轮中午出发。",
    "big5": "月亮影響潮汐，滿月時潮水最高。渡輪中午出發，請提前十分鐘到達碼頭。",
    "shift_jis": "月は潮の満ち引きに影響します。フェリーは正午に出発します。",
}


@pytest.mark.parametrize(("encoding", "text"), ENCODINGS.items(), ids=ENCODINGS.keys())
def test_text_is_read_in_its_encoding(encoding, text):
    assert read("a.txt", text.encode(encoding)).text == text


REJECTED = {
    "missing": ("nowhere.pdf", "there is no file 'nowhere.pdf'"),
    "folder": (".", "there is no file '.'"),
    "older format": (("a.doc", b"x"), "a format that is not supported"),
    "binary": (("a.txt", bytes(range(256))), "is not text"),
    "picture": (("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"), "is not text"),
    "empty": (("a.txt", b""), "has no text"),
    "no office file": (("a.docx", b"x"), "is damaged"),
    "password": (("a.xlsx", b"\xd0\xcf\x11\xe0" + bytes(600)), "has a password, or the format of Office before 2007"),
    "type": (3, "a document is int"),
}


@pytest.mark.parametrize(("document", "message"), REJECTED.values(), ids=REJECTED.keys())
def test_documents_that_cannot_be_read_are_rejected(document, message):
    with pytest.raises(edge.RequestError, match=message) as caught:
        edge.read_document(document)
    assert caught.value.hint


@pytest.mark.parametrize("documents", ["a.pdf", ("a.md", b"x"), b"x", 3], ids=str)
def test_documents_are_a_list(bare_folder, documents):
    with (
        edge.Chat(edge.Model(bare_folder, backend=Echo())) as chat,
        pytest.raises(edge.RequestError, match="documents is") as caught,
    ):
        chat.send("Hi", documents=documents)
    assert "documents=[…]" in caught.value.hint


def test_a_document_that_fails_leaves_the_history_as_it_was(bare_folder):
    with edge.Chat(edge.Model(bare_folder, backend=Echo(["\nHello."]))) as chat:
        with pytest.raises(edge.RequestError, match="has no text"):
            chat.send("Hi", documents=[("a.txt", b"")])
        assert chat.history == ()
        assert chat.send("Hi").text == "Hello."


def scanned(pages_of_text=0):
    from pypdf import PdfWriter
    from pypdf.generic import DictionaryObject, NameObject, NumberObject, StreamObject

    writer = PdfWriter()
    picture = StreamObject()
    picture.update({NameObject("/Type"): NameObject("/XObject"), NameObject("/Subtype"): NameObject("/Image")})
    picture.update({NameObject("/Width"): NumberObject(1), NameObject("/Height"): NumberObject(1)})
    for _ in range(2):
        page = writer.add_blank_page(100, 100)
        objects = DictionaryObject({NameObject("/P"): writer._add_object(picture)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): objects})
    if pages_of_text:
        writer.append(io.BytesIO(pdf(pages_of_text, 1)))
    return saved(writer.write)


def test_scanned_pages_are_named():
    with pytest.raises(edge.RequestError, match="its pages are pictures, as a scanner makes them") as caught:
        edge.read_document(("scan.pdf", scanned()))
    assert "ocrmypdf" in caught.value.hint
    found = edge.read_document(("scan.pdf", scanned(1)))
    assert found.notes == ("pages 1, 2 are without text: scanned, or pictures alone",)
    assert found.sections[0].place == "page 3"


def test_an_encrypted_pdf_is_named():
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(PdfReader(io.BytesIO(pdf(1, 1))))
    writer.encrypt("secret", algorithm="RC4-128")
    with pytest.raises(edge.RequestError, match=r"'a\.pdf' has a password"):
        edge.read_document(("a.pdf", saved(writer.write)))


def test_places_of_lines_and_rows():
    text = "\n".join(f"line {n}" for n in range(1, 101))
    passages = list(split(read("a.py", text), 100))
    for passage in passages:
        numbers = [line.split()[1] for line in passage.text.split("\n")]
        assert passage.place == f"lines {numbers[0]}-{numbers[-1]}"
    assert "\n".join(passage.text for passage in passages) == text


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
def test_a_name_that_is_no_unicode_is_read(tmp_path):
    path = tmp_path / os.fsdecode("渡轮.txt".encode("gbk"))
    path.write_text("At noon.")
    assert edge.read_document(path).name.encode()


@pytest.mark.slow
def test_the_real_model_reads_a_long_document(demo_folder):
    (sample,) = [one for one in samples() if one.name == "ferries.pdf"]
    with edge.Chat(demo_folder, temperature=0, max_new_tokens=20) as chat:
        reply = chat.send(sample.question, documents=[(sample.name, sample.data)])
    assert any(sample.fact in one.text for one in reply.citations)
    assert 500 < reply.usage.prompt_tokens < 2048


def test_a_piped_question_has_its_files(demo_folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "fares.md").write_text("# Fares\n\nA crossing costs 12 crowns.")
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who are you?\n"))
    sent = []
    stream = edge.Chat.stream

    def record(self, message, *, documents=(), **settings):
        sent.append([one.name for one in documents])
        return stream(self, message, documents=documents, **settings)

    monkeypatch.setattr(edge.Chat, "stream", record)
    command = ["chat", str(demo_folder.path), "--file", str(tmp_path / "fares.md"), "--max-new-tokens", "8"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert shown.out.strip()
    assert (sent, shown.err) == ([["fares.md"]], "")
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who are you?\n"))
    assert main(["chat", str(demo_folder.path), "--file", "nowhere.md"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no file 'nowhere.md'\nhint: ")


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for sample in samples():
        (folder / sample.name).write_bytes(sample.data)
    return folder


def test_a_folder_is_searched_with_places(library, tmp_path):
    index = DocumentIndex(library)
    for sample in samples():
        best = index.search(sample.question, 3)
        (found,) = [page for page in best if sample.fact in page.text]
        assert found.address.partition("#")[0] == sample.name
        assert found.place.startswith(sample.place)
    folder = edge.adopt(write_embedding_model(tmp_path / "embed"))
    both = open_folder(str(library), str(folder.path))
    assert any("Brandholm" in page.text for page in both.search("When does the last ferry to Brandholm depart?", 4))


def text_of(found):
    return to_output(found).text


def test_the_tools_of_a_folder_search_and_open(library):
    search, read = DocumentIndex(library).tools()
    found = search.run('{"query": "last ferry to Brandholm"}')
    assert "ferries, page 8 (ferries.pdf#8)" in text_of(found)
    assert "at 23:47" in text_of(read.run('{"address": "ferries.pdf#8"}'))
    with pytest.raises(ValueError, match=r"there is no page 'x\.pdf'"):
        read.run('{"address": "x.pdf"}')
    assert text_of(search.run('{"query": "xylophone"}')) == "No page has any of these words."


def test_serve_offers_the_folder_to_its_page(library, demo_folder):
    args = parser().parse_args(["serve", str(demo_folder.path), "--docs", str(library)])
    found = server_settings(load_config(args), None)
    assert [tool.name for tool in found.tools] == ["search_documents", "open_document"]
