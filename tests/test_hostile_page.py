"""Files that the page is asked to load, with anything in them: opened, or refused by name."""

import json

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from .serving import scripted

SAVED = {
    "id": "a",
    "messages": [
        {"role": "user", "content": "Hello", "note": {"word": "constructor", "values": 7}},
        {"role": "assistant", "content": "Hi", "note": {"word": "noteOfTomorrow", "values": {"a": 1}}},
    ],
    "temperature": 99,
    "top_p": -1,
    "max_tokens": -1,
}


def test_an_imported_conversation_opens_and_spoils_nothing(browser, bare_folder, tmp_path):
    file = tmp_path / "saved.json"
    file.write_text(json.dumps({"format": "glm4-edge conversations", "version": 1, "conversations": [SAVED]}))
    with scripted(bare_folder, []) as (url, *_):
        browser.open(url)
        browser.click(".top [data-t-label=settings]")
        browser.type(str(file), ".settings input[type=file]")
        browser.until("return document.querySelectorAll('.list .open').length === 1")
        browser.click(".list .open")
        browser.until("return document.querySelector('#thread').textContent.includes('broke off')")
        browser.click(".new")
        assert browser.ask("Are you there?").startswith("I was sent")
