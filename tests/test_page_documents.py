"""Documents on the chat page, in a real Chromium, and the endpoint that reads them."""

import asyncio
import json

import httpx2 as httpx
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("docx")

import edge
from edge.documents import DocumentIndex
from edge.server.limits import Limits
from edge.server.page.meaning import embed_by
from edge.server.pool.auxiliary.encoders import EncoderPool
from edge.server.pool.idle_watch import IdleWatch
from runtime.backends.echo import Echo
from runtime.cancellation import Cancellation

from .encoders import write_embedding_model
from .hostile_documents import paragraph, word
from .sample_documents import samples
from .serving import scripted

PDF = next(sample for sample in samples() if sample.name == "ferries.pdf")
DROP = """
const [name, text] = arguments;
const data = new DataTransfer();
data.items.add(new File([text], name));
const event = new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
document.querySelector(".composer").dispatchEvent(event);
"""
READY = "return document.querySelectorAll('.dock .documents .chip:not(.reading)').length === arguments[0]"


class Small(Echo):
    """An engine whose context holds a few passages."""

    def __init__(self, replies):
        super().__init__(replies, max_prompt_tokens=4_500)


def choose(browser, *paths):
    browser.all("input[type=file]")[0].send_keys("\n".join(map(str, paths)))


def found_by_number(browser, number):
    """The passage with that number in the list of a reply's passages."""
    passages = zip(browser.texts(".sources .passage summary"), browser.texts(".sources .passage pre"), strict=True)
    return next(text for summary, text in passages if summary.startswith(f"[{number}] "))


@pytest.mark.slow
def test_documents_are_chosen_dropped_shown_and_cited(browser, bare_folder, tmp_path):
    path, fares = tmp_path / PDF.name, tmp_path / "fares.docx"
    path.write_bytes(PDF.data)
    fares.write_bytes(word(paragraph("A crossing costs 12 crowns.")))
    with scripted(bare_folder, ["\nAt 23:47 [3].", "\nYes.", "\nNo."], engine=Small) as (url, _, engine):
        browser.open(url)
        choose(browser, path, fares)
        browser.until(READY, 2)
        browser.js(DROP, "notes.md", "# Notes\n\nNothing of note.")
        browser.until(READY, 3)
        browser.click(".dock .documents [data-t-label=removeDocument]", 1)
        assert browser.texts(".dock .documents .name") == [PDF.name, "notes.md"]
        browser.ask(PDF.question)
        first = "".join(engine.requests[0].prompt)
        assert PDF.fact in first
        assert "Nothing of note." in first
        assert "12 crowns" not in first
        assert browser.texts(".turn.user .documents .name") == [PDF.name, "notes.md"]
        assert browser.texts(".bubble") == [PDF.question]
        assert browser.all(".dock .documents .chip") == []
        summaries = browser.texts(".sources .passage summary")
        assert any(f"{PDF.name}, {PDF.place}" in one for one in summaries)
        found = [text for text in browser.texts(".sources .passage pre") if PDF.fact in text]
        assert len(found) == 1
        assert "notes.md was read as a whole." in browser.text(".sources")
        assert browser.js("return document.querySelector('.cite').ariaLabel").startswith("Passage 3: ")
        browser.click(".cite")
        assert browser.text(".cited pre") == found_by_number(browser, 3)
        browser.type("\ue00c", ".cited")
        browser.ask("Really?")
        second = "".join(engine.requests[1].prompt)
        assert second.startswith(first[: first.rindex(PDF.question)])
        before = browser.text("#thread")
        browser.reload()
        assert browser.text("#thread") == before
        assert browser.complaints() == []


@pytest.mark.slow
def test_an_edited_question_keeps_its_documents(browser, bare_folder):
    with scripted(bare_folder, ["\nOne.", "\nTwo.", "\nThree."]) as (url, _, engine):
        browser.open(url)
        browser.js(DROP, "notes.md", "# Notes\n\nThe tide is high.")
        browser.until(READY, 1)
        browser.ask("First")
        browser.click(".user [data-t-label=edit]")
        browser.type("!\n", ".editing textarea")
        browser.until("return document.querySelector('.turn:last-child .prose')?.textContent === 'Two.'")
        browser.replied()
        browser.click(".turn:last-child .retry")
        browser.until("return document.querySelector('.turn:last-child .prose')?.textContent === 'Three.'")
        for request, question in zip(engine.requests, ("First", "First!", "First!"), strict=True):
            assert "The tide is high.\n\n\n1 files uploaded.\n" + question in "".join(request.prompt)


@pytest.mark.slow
def test_a_document_that_cannot_be_read_is_named(browser, bare_folder):
    with scripted(bare_folder, []) as (url, _, _engine):
        browser.open(url)
        browser.js(DROP, "report.doc", "x")
        browser.until("return document.querySelector('.notice')?.textContent.includes('report.doc cannot be added.')")
        assert "has a format that is not supported" in browser.text(".notice")
        assert browser.all(".dock .documents .chip") == []
        assert len(browser.complaints()) == 1  # the response's status


@pytest.mark.slow
def test_a_kiosk_takes_no_documents(browser, bare_folder):
    from edge.server.page.kiosk import Kiosk

    with scripted(bare_folder, ["\nHello."], kiosk=Kiosk()) as (url, _, _engine):
        browser.open(url)
        browser.js(DROP, "notes.md", "# Notes")
        assert browser.ask("Hi") == "Hello."
        assert browser.all(".clip, .documents .chip") == []
        assert httpx.post(f"{url}/chat/document?name=a.md", content=b"# A").status_code == 404
        body = {"messages": [{"role": "user", "content": "Hi"}], "documents": [{"name": "a", "sections": []}]}
        assert httpx.post(f"{url}/chat", json=body).status_code == 403


REJECTED = {
    "no name": ("", b"# A", 400, "the document has no name"),
    "format": ("?name=a.doc", b"x", 400, "a format that is not supported"),
    "damaged": ("?name=a.docx", b"x", 400, "is damaged"),
    "large": ("?name=a.txt", b"x" * 300_000, 413, "larger than"),
}


def test_the_endpoint_reads_and_rejects_documents(bare_folder):
    from edge.server.limits import Limits

    with scripted(bare_folder, [], limits=Limits(body_bytes=200_000)) as (url, _, _engine):
        answer = httpx.post(f"{url}/chat/document?name=%E6%B8%A1%E8%BD%AE.md", content="# 渡轮\n\n中午。".encode())
        assert answer.json() == {
            "name": "渡轮.md",
            "sections": [{"place": "渡轮", "text": "# 渡轮\n\n中午。", "unit": "line", "first": 1}],
            "notes": [],
        }
        for query, body, status, message in REJECTED.values():
            answer = httpx.post(f"{url}/chat/document{query}", content=body)
            assert answer.status_code == status
            assert message in answer.json()["error"]["message"]
        answer = httpx.post(f"{url}/chat/document?name=a.txt", content=b"tide " * 30_000)
        assert sum(len(one["text"]) for one in answer.json()["sections"]) == 50_000
        assert answer.json()["notes"] == ["only the first 50,000 characters were read"]
        other = {"Origin": "http://elsewhere.example"}
        assert httpx.post(f"{url}/chat/document?name=a.md", content=b"# A", headers=other).status_code == 403


def test_the_stream_has_what_the_message_contains(bare_folder):
    body = {
        "messages": [{"role": "user", "content": "When?"}],
        "documents": [{"name": "a.md", "sections": [{"place": "A", "text": "# A\n\nAt noon."}]}],
    }
    with scripted(bare_folder, ["\nAt noon."]) as (url, _, _engine):
        events = httpx.post(f"{url}/chat", json=body).text.split("\n\n")
    assert events[0].startswith("event: documents\n")
    found = json.loads(events[0].partition("data: ")[2])
    assert found["whole"] == ["a.md"]
    assert found["content"].endswith("At noon.\n\n\n1 files uploaded.\nWhen?")
    finish = json.loads(events[-2].partition("data: ")[2])
    assert finish["messages"][0]["content"] == found["content"]


def test_the_page_s_model_searches_a_folder(bare_folder, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / PDF.name).write_bytes(PDF.data)
    tools = DocumentIndex(tmp_path / "docs").tools()
    calls = ['search_documents\n{"query": "last ferry"}', 'open_document\n{"address": "ferries.pdf#8"}', "\nAt 23:47."]
    body = {"messages": [{"role": "user", "content": PDF.question}]}
    with scripted(bare_folder, calls, tools=tools) as (url, _, _engine):
        assert [tool["name"] for tool in httpx.get(f"{url}/chat").json()["tools"]] == [tool.name for tool in tools]
        events = httpx.post(f"{url}/chat", json=body).text.split("\n\n")
    results = [json.loads(one.partition("data: ")[2])["content"] for one in events if "tool_result" in one]
    assert "ferries, page 8 (ferries.pdf#8)" in results[0]
    assert PDF.fact in results[1]


def test_uploads_are_searched_by_meaning_where_the_server_has_a_model_for_it(bare_folder, tmp_path):
    folder = edge.adopt(write_embedding_model(tmp_path / "embed"))
    words = ("ship", "sun", "rain", "harbour")
    sections = [{"place": word, "text": f"the {word} is . " * 90} for word in words]
    body = {
        "messages": [{"role": "user", "content": "love"}],  # which no section has
        "documents": [{"name": "a.md", "sections": sections}],
    }
    for beside in ([], [folder.path]):
        with scripted(bare_folder, ["\nYes."], engine=Small, beside=beside) as (url, *_):
            events = httpx.post(f"{url}/chat", json=body, timeout=60).text.split("\n\n")
        found = json.loads(events[0].partition("data: ")[2])
        assert ("These passages of the file match" in found["content"]) == bool(beside)
        assert found["citations"]


def test_a_search_by_meaning_ends_with_its_reply(bare_folder, tmp_path):
    pool = EncoderPool("CPU", Limits(), IdleWatch(asyncio.Lock()), None)
    pool.add("embed", edge.adopt(write_embedding_model(tmp_path / "embed")))

    async def search():
        cancellation = Cancellation()
        embed = embed_by(pool, cancellation, "")
        vectors = await asyncio.to_thread(embed, ["the ship"] * 130 + [" "])
        await pool.entries["embed"].queue.acquire(1, 1e12, "other")  # somebody else's turn does not end
        waiting = asyncio.create_task(asyncio.to_thread(embed, ["the sun"]))
        await asyncio.sleep(0.05)
        cancellation.cancel()
        with pytest.raises(edge.RequestError, match="cancelled"):
            await waiting
        return vectors

    vectors = asyncio.run(search())
    assert vectors.shape[0] == 131
    assert abs((vectors**2).sum(axis=1) - 1).max() < 1e-5
