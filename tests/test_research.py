"""The research loop end to end on real documents, with a scripted model: the tiny checkpoint cannot ruminate."""

import json
import os
import sys

import pytest

from edge.documents import PAGE_CHARACTERS, DocumentIndex
from edge.research import ANSWER_NOW, LANGUAGES, ResearchSession, research, set_language
from runtime.backends.echo import Echo
from runtime.errors import Notice, RequestError
from runtime.events import Reasoning
from runtime.folder.manifest import CheckpointRecord, Manifest
from runtime.folder.model_folder import write_manifest
from runtime.model import Model
from runtime.reply.reply import Reply
from runtime.sampling import Sampling

from .conftest import SPECIAL_TOKENS


def pdf(text):
    """A PDF of one page that says the text."""
    stream = f"BT /F 12 Tf 20 200 Td ({text}) Tj ET"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>/MediaBox[0 0 300 300]>>",
        f"<</Length {len(stream)}>>\nstream\n{stream}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    start = len(out)
    out += f"xref\n0 6\n0000000000 65535 f \n{table}trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n"
    return out.encode()


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "tides.md").write_text("# Tides\n\nThe tide is highest at full moon.\n", encoding="utf-8")
    (folder / "moon.txt").write_text("月亮影响潮汐，满月时潮水最高。", encoding="utf-8")
    page = "<html><title>Storms</title><script>alert('x')</script><p>A storm raises the tide.</p></html>"
    (folder / "sub" / "storms.html").write_text(page, encoding="utf-8")
    (folder / "ferries.pdf").write_bytes(pdf("Ferries leave at noon"))
    (folder / "long.txt").write_text(
        "\n\n".join(f"Paragraph {i} on lighthouses." for i in range(400)), encoding="utf-8"
    )
    (folder / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


def test_documents_of_all_kinds_are_found(library):
    documents = DocumentIndex(library)
    assert documents.search("When do ferries leave?")[0].address == "ferries.pdf"
    assert documents.search("满月的潮水")[0].address == "moon.txt"
    assert {page.address for page in documents.search("tide")} == {"tides.md", "sub/storms.html"}
    assert documents.search("xylophone") == []
    assert documents.open("sub/storms.html").title == "Storms"
    assert "alert" not in documents.open("sub/storms.html").text
    assert documents.open("../secret.txt") is None
    assert not any("secret" in page.text for page in documents.pages)


def test_long_documents_are_cut_between_paragraphs(library):
    pages = [page for page in DocumentIndex(library).pages if page.address.startswith("long.txt")]
    assert [page.address for page in pages] == ["long.txt", *(f"long.txt#{i}" for i in range(2, len(pages) + 1))]
    assert all(len(page.text) <= PAGE_CHARACTERS and page.text.endswith("lighthouses.") for page in pages)


def test_a_damaged_document_is_left_out_and_named(library):
    (library / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    with pytest.warns(Notice, match=r"broken\.pdf is skipped: 'broken\.pdf' is damaged"):
        DocumentIndex(library)


def test_no_documents_are_refused(tmp_path):
    with pytest.raises(RequestError, match="contains no documents"):
        DocumentIndex(tmp_path)
    with pytest.raises(RequestError, match="there is no folder"):
        DocumentIndex(tmp_path / "nowhere")


def rumination(tmp_path, *replies, system=""):
    """A model with the four tools in its own template, and scripted replies."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "chat_template.jinja").write_text(
        f'[gMASK]<sop><|system|>\n{system}[{{"name": "finish"}}]'
        + "{% for m in messages %}<|{{ m.role }}|>{{ m.metadata }}\n"
        "{{ m.content }}{% endfor %}<|assistant|>",
        encoding="utf-8",
    )
    special = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    manifest = Manifest(
        "rumination", "int4", CheckpointRecord("rumination", "Glm4ForCausalLM", ""), 100_000, 1, special
    )
    return Model(write_manifest(folder, manifest), backend=Echo(replies))


def call(name, **arguments):
    return f"\n<think>\nI should {name}.</think>\n{name}\n{json.dumps(arguments)}"


def test_the_loop_searches_reads_and_answers_with_its_sources(library, tmp_path):
    answer = "\n<think>\nEnough.</think>\nAt full moon [tides.md]."
    calls = [call("search", query="highest tide"), call("click", link_id=0), call("open", url="sub/storms.html")]
    model = rumination(tmp_path, *calls, call("finish"), answer)
    session = ResearchSession(DocumentIndex(library))
    events = list(research(model, "When is the tide highest?", session))
    reply = Reply.from_events(events)
    assert [made.name for made in reply.tool_calls] == ["search", "click", "open", "finish"]
    assert "highest at full moon" in reply.tool_results[1].content
    assert reply.tool_results[3].content == ANSWER_NOW
    assert reply.text == "At full moon [tides.md]."
    assert set(session.read_pages) == {"tides.md", "sub/storms.html"}
    assert "".join(event.text for event in events if isinstance(event, Reasoning)).count("I should") == 4


def test_wrong_clicks_are_told_to_the_model(library, tmp_path):
    model = rumination(tmp_path, call("click", link_id=3), call("open", url="/etc/passwd"), "\nNo idea.")
    reply = Reply.from_events(research(model, "?", ResearchSession(DocumentIndex(library))))
    assert [result.error for result in reply.tool_results] == [True, True]


def test_after_its_rounds_the_model_has_to_answer(library, tmp_path):
    model = rumination(tmp_path, *[call("search", query="tide")] * 3, "\nHigh water follows the moon.")
    reply = Reply.from_events(research(model, "?", ResearchSession(DocumentIndex(library)), max_rounds=3))
    assert len(reply.tool_calls) == 3
    assert reply.text == "High water follows the moon."
    assert reply.finish_reason == "stop"


def test_the_token_budget_holds(library, tmp_path):
    model = rumination(tmp_path, *[call("search", query="tide")] * 9)
    reply = Reply.from_events(
        research(model, "?", ResearchSession(DocumentIndex(library)), max_tokens=100, sampling=Sampling())
    )
    assert reply.finish_reason == "length"
    assert reply.usage.completion_tokens <= 100


def test_a_tool_of_the_applications_own_takes_its_place(library, tmp_path):
    def search(query: str) -> str:
        return f"my own results for {query}"

    model = rumination(tmp_path, call("search", query="tide"), "\nDone.")
    reply = Reply.from_events(research(model, "?", ResearchSession(DocumentIndex(library)), tools=[search]))
    assert reply.tool_results[0].content == "my own results for tide"


LINES = "<重要配置>\n- 采用语言\n    * 搜索关键词：英语\n    * 思考：英语\n\n"


def test_a_language_changes_two_lines_of_the_template(tmp_path, library):
    model = rumination(tmp_path, "\n好的。", system=LINES)
    chinese = set_language(model, "zh")
    before, after = ("".join(each.prompt("潮汐？")) for each in (model, chinese))
    assert "    * 搜索关键词：中文\n    * 思考：中文\n" in after
    assert after == before.replace("英语", "中文")
    assert set_language(model, "en").prompt("?") == model.prompt("?")
    assert Reply.from_events(research(model, "潮汐？", ResearchSession(DocumentIndex(library)), language="zh")).text


def test_rumination_s_own_template_takes_every_language(tmp_path, reference):
    template = (reference / "chat-templates" / "rumination-32b-0414.jinja").read_text(encoding="utf-8")
    model = rumination(tmp_path, "")
    (tmp_path / "model" / "chat_template.jinja").write_text(template, encoding="utf-8")
    before = "".join(model.with_template(template).prompt("?"))
    for language, name in LANGUAGES.items():
        after = "".join(set_language(model, language).prompt("?"))
        assert after == before.replace("词：英语", f"词：{name}").replace("考：英语", f"考：{name}")


@pytest.mark.parametrize(
    ("language", "system", "words"),
    [
        ("xx", LINES, "'xx' is not supported"),
        ("zh", "", "of rumination has no line '搜索关键词：' that sets a language"),
    ],
)
def test_a_language_that_cannot_be_set_is_rejected(tmp_path, language, system, words):
    with pytest.raises(RequestError, match=words) as caught:
        set_language(rumination(tmp_path, "", system=system), language)
    assert caught.value.hint


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
def test_a_name_that_is_no_unicode_is_found_and_opened(bare_folder, tmp_path):
    """One in GBK, from an archive of Windows."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / os.fsdecode("渡轮.txt".encode("gbk"))).write_text("Ferries leave at noon.")
    session = ResearchSession(DocumentIndex(tmp_path / "docs"))
    (page,) = session.documents.pages
    assert page.address.encode()
    assert page.title.encode()
    assert "noon" in session.search("ferries")
    assert "noon" in session.open(page.address)
    calls = ['search\n{"query": "ferries"}', 'click\n{"link_id": 0}', "\nAt noon."]
    model = Model(bare_folder, backend=Echo(calls))
    assert Reply.from_events(research(model, "When?", session)).text == "At noon."
