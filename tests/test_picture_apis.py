"""Pictures in the APIs: whatever layout a client sends one in, it reaches the engine, or is rejected by name."""

import base64
import io
import json
import sys
from dataclasses import replace

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")
image_module = pytest.importorskip("PIL.Image")

from edge.cli import main  # noqa: E402
from edge.server.limits import Limits  # noqa: E402
from runtime.folder.model_folder import write_manifest  # noqa: E402
from runtime.pictures import Picture  # noqa: E402
from runtime.prompt.families import get  # noqa: E402

from .serving import scripted  # noqa: E402

QUESTION = "What is this?"
NOT_BASE64 = "a picture is not valid base64"


def picture_file(color="red", size=(4, 3)):
    file = io.BytesIO()
    image_module.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


RED = picture_file()
BASE64 = base64.b64encode(RED).decode()
URL = f"data:image/png;base64,{BASE64}"
TEXT = {"type": "text", "text": QUESTION}


@pytest.fixture
def vision_folder(bare_folder):
    """A folder of GLM-4V's family, without weights."""
    (bare_folder.path / "chat_template.jinja").write_text(get("glm4v").template, encoding="utf-8")
    return write_manifest(bare_folder.path, replace(bare_folder.manifest, family="glm4v"))


@pytest.fixture
def served(vision_folder):
    with (
        scripted(vision_folder, ["\nA red square."] * 9) as (url, dispatcher, engine),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        yield client, dispatcher, engine


def openai(*parts, **message):
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": list(parts)} | message]}


def responses(*parts):
    return "/v1/responses", {"input": [{"role": "user", "content": list(parts)}]}


def anthropic(*parts):
    return "/v1/messages", {"model": "bare", "max_tokens": 50, "messages": [{"role": "user", "content": list(parts)}]}


LAYOUTS = {
    "openai": openai({"type": "image_url", "image_url": {"url": URL, "detail": "low"}}, TEXT),
    "openai, a bare URL": openai({"type": "image_url", "image_url": URL}, TEXT),
    "langchain, base64": openai({"type": "image", "base64": BASE64, "mime_type": "image/png"}, TEXT),
    "langchain, earlier": openai(
        {"type": "image", "source_type": "base64", "data": BASE64, "mime_type": "image/png"}, TEXT
    ),
    "anthropic's part at openai's path": openai(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}}, TEXT
    ),
    "responses": responses({"type": "input_image", "image_url": URL}, {"type": "input_text", "text": QUESTION}),
    "anthropic": anthropic(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}}, TEXT
    ),
    "ollama, chat": ("/api/chat", {"messages": [{"role": "user", "content": QUESTION, "images": [BASE64]}]}),
    "ollama, a data: URL": ("/api/chat", {"messages": [{"role": "user", "content": QUESTION, "images": [URL]}]}),
    "ollama, generate": ("/api/generate", {"prompt": QUESTION, "images": [BASE64]}),
    "the page": (
        "/chat",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}, TEXT]}]},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_picture_stands_before_its_question(served, layout):
    client, _, engine = served
    path, body = LAYOUTS[layout]
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    before, picture, after = engine.requests[0].prompt
    assert picture == Picture.open(RED)
    assert (before, after) == ("[gMASK]<sop><|user|>\n", f"{QUESTION}<|assistant|>")


def test_a_picture_stands_where_the_client_puts_it(served):
    client, _, engine = served
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}}
    for path, body in (
        openai({"type": "text", "text": "Look: "}, {"type": "image_url", "image_url": {"url": URL}}, TEXT),
        anthropic({"type": "text", "text": "Look: "}, image, TEXT),
    ):
        assert client.post(path, json=body).status_code == 200
        before, picture, after = engine.requests[-1].prompt
        assert before.endswith("<|user|>\nLook: ")
        assert isinstance(picture, Picture)
        assert after.lstrip("\n") == f"{QUESTION}<|assistant|>"


REJECTED = {
    "another server's": (
        openai({"type": "image_url", "image_url": {"url": "https://pictures.example/cat.png"}}, TEXT),
        "pictures are not fetched from https URLs",
    ),
    "a file of this machine": (openai({"type": "image_url", "image_url": {"url": "/etc/passwd"}}, TEXT), "data: URL"),
    "file:": (openai({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, TEXT), "data: URL"),
    "no base64": (openai({"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}), NOT_BASE64),
    "text": (openai({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}), "picture"),
    "a file's id": (responses({"type": "input_image", "file_id": "file-1"}), "image_url"),
    "anthropic, a URL": (
        anthropic({"type": "image", "source": {"type": "url", "url": "https://pictures.example/cat.png"}}, TEXT),
        "pictures are not fetched from https URLs",
    ),
    "anthropic, a file": (
        anthropic({"type": "image", "source": {"type": "file", "file_id": "file_1"}}, TEXT),
        "images of the type 'file' are not supported",
    ),
    "anthropic, damaged": (
        anthropic({"type": "image", "source": {"type": "base64", "data": BASE64[:40]}}, TEXT),
        "messages[0].content[0].source.data: a picture is ",
    ),
    "ollama": (("/api/chat", {"messages": [{"role": "user", "content": "?", "images": ["?"]}]}), NOT_BASE64),
    "ollama, a path": (
        ("/api/chat", {"messages": [{"role": "user", "content": "?", "images": ["./cat.png"]}]}),
        NOT_BASE64,
    ),
    "ollama, no text": (("/api/generate", {"prompt": "?", "images": [[1, 2]]}), "a picture"),
    "ollama, raw": (("/api/generate", {"prompt": "?", "raw": True, "images": [BASE64]}), "images is not supported"),
    "a video": (openai({"type": "video_url", "video_url": {"url": URL}}, TEXT), "video_url"),
}


@pytest.mark.parametrize("what", REJECTED)
def test_what_is_no_picture_is_rejected_by_name(served, what):
    client, _, engine = served
    (path, body), words = REJECTED[what]
    answer = client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert words in answer.text
    assert not engine.requests


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_of_text_rejects_pictures(bare_folder, layout):
    path, body = LAYOUTS[layout]
    with scripted(bare_folder, ["\nNo."]) as (url, _, engine), httpx2.Client(base_url=url, timeout=60) as client:
        answer = client.post(path, json=body)
        assert answer.status_code == 400 or "event: error" in answer.text, answer.text
        assert "reads no pictures" in answer.text
        assert not engine.requests


def test_a_chat_goes_on_about_its_picture(served):
    """The same picture in the first message again, as clients send it, and from the server's memory."""
    client, _, engine = served
    path, body = LAYOUTS["openai"]
    reply = client.post(path, json=body).json()["choices"][0]["message"]
    further = [
        *body["messages"],
        {"role": "assistant", "content": reply["content"]},
        {"role": "user", "content": "Why?"},
    ]
    assert client.post(path, json={"messages": further}).status_code == 200
    first = client.post("/v1/responses", json=LAYOUTS["responses"][1]).json()
    second = client.post("/v1/responses", json={"input": "Why?", "previous_response_id": first["id"]})
    assert second.status_code == 200, second.text
    for request in (engine.requests[1], engine.requests[3]):
        _, picture, after = request.prompt
        assert picture == Picture.open(RED)
        assert after.endswith("A red square.<|user|>\nWhy?<|assistant|>")
    items = client.get(f"/v1/responses/{first['id']}/input_items").json()["data"]
    assert items[0]["content"][0]["image_url"] == URL


def test_bodies_with_pictures_may_be_larger(vision_folder, bare_folder):
    """Where messages are: not elsewhere, and not for a model of text."""
    limits = Limits(body_bytes=2**16, picture_body_bytes=2**20)
    noise = base64.b64encode(picture_file(size=(400, 300)) + b"\0" * 2**17).decode()
    path, body = openai({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{noise}"}}, TEXT)
    with scripted(vision_folder, ["\nRed."] * 2, limits=limits) as (url, *_):
        assert httpx2.post(url + path, json=body, timeout=60).status_code == 200
        assert httpx2.post(f"{url}/tokenize", json={"prompt": noise}, timeout=60).status_code == 413
        huge = httpx2.post(url + path, content=b" " * (2**20 + 1), timeout=60)
        assert (huge.status_code, huge.json()["error"]["message"]) == (413, "the body is larger than 1,048,576 bytes")
    text_folder = write_manifest(bare_folder.path, replace(bare_folder.manifest, family="glm4_0414"))
    with scripted(text_folder, ["\nRed."], limits=limits) as (url, *_):
        assert httpx2.post(url + path, json=body, timeout=60).status_code == 413


def test_the_lists_say_what_a_model_reads(served):
    client, _, _ = served
    assert client.get("/v1/models").json()["data"][0]["input_modalities"] == ["text", "image"]
    assert "vision" in client.get("/api/tags").json()["models"][0]["capabilities"]
    assert "vision" in client.post("/api/show", json={}).json()["capabilities"]
    assert client.get("/chat").json()["models"][0]["pictures"] is True


def test_tokens_of_a_picture_are_counted(served):
    client, _, _ = served
    path, body = LAYOUTS["anthropic"]
    with_picture = client.post(f"{path}/count_tokens", json=body).json()["input_tokens"]
    plain = client.post(f"{path}/count_tokens", json=anthropic(TEXT)[1]).json()["input_tokens"]
    assert with_picture == plain + 1  # the fake engine's count


def test_the_terminal_takes_pictures(vision_folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "red.png").write_bytes(RED)
    (tmp_path / "replies.jsonl").write_text(json.dumps({"reply": "\nA red square."}), encoding="utf-8")
    command = ["chat", str(vision_folder.path), "--device", f"echo:{tmp_path / 'replies.jsonl'}"]
    for arguments, status, words in (
        (["--picture", str(tmp_path / "red.png")], 0, "A red square."),
        (["--picture", str(tmp_path / "red.png")] * 2, 1, "supports one picture in a chat, and this one has 2"),
        (["--picture", str(tmp_path / "no.png")], 1, "no.png"),
        (["--picture", str(tmp_path / "replies.jsonl")], 1, "send a JPEG, PNG, WEBP, GIF or BMP file"),
        (["--picture", "https://pictures.example/cat.png"], 1, "pictures are not fetched"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(QUESTION))
        found = main([*command, *arguments])
        output = capsys.readouterr()
        assert words in output.out + output.err
        assert found == status
