"""Versions of questions and replies on the chat page: an edit or another try keeps what was there before."""

import json

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from .serving import scripted
from .test_server import until

LAST = "return document.querySelector('.turn:last-child .prose')?.textContent === arguments[0]"


def edit(browser, index, text):
    browser.click(".user [data-t-label=edit]", index)
    browser.type(text, ".editing textarea")


@pytest.mark.slow
def test_an_edit_and_another_try_keep_the_versions_before(browser, bare_folder):
    replies = ["\nOne.", "\nTwo.", "\nThree.", "\nFour."]
    with scripted(bare_folder, replies) as (url, _, engine):
        browser.open(url)
        browser.ask("First")
        browser.ask("Second")
        browser.click(".turn:last-child .retry")
        browser.until(LAST, "Three.")
        browser.replied()
        assert browser.text(".turn:last-child .versions span") == "2/2"
        edit(browser, 0, "!\n")
        browser.until(LAST, "Four.")
        browser.replied()
        assert browser.texts(".bubble") == ["First!"]
        assert browser.text(".turn.user .versions span") == "2/2"
        assert browser.js("return document.querySelector('.versions').ariaLabel") == "Version 2 of 2"
        for _ in range(2):  # also after a reload
            browser.reload()
            browser.js("document.querySelector('.versions .left').focus()")
            browser.driver.switch_to.active_element.send_keys("\n")
            assert browser.texts(".bubble") == ["First", "Second"]
            assert browser.texts(".prose") == ["One.", "Three."]
            # The focus stays on the switch: on its other button, as there is no version before.
            assert browser.js("return document.activeElement.matches('.turn.user .versions .right')")
            browser.click(".turn:last-child .versions .left")
            assert browser.texts(".prose") == ["One.", "Two."]
            browser.click(".turn.user .versions .right")
            assert browser.texts(".bubble") == ["First!"]
            assert browser.texts(".prose") == ["Four."]
        browser.click(".turn.user .versions .left")
        browser.ask("Third")
        assert "Second" in str(engine.requests[-1].prompt)
        assert "First!" not in str(engine.requests[-1].prompt)


@pytest.mark.slow
def test_an_export_has_the_version_that_is_shown_and_a_backup_has_all(browser, bare_folder):
    with scripted(bare_folder, ["\nOne.", "\nTwo."]) as (url, *_):
        browser.open(url)
        browser.ask("Versions")
        browser.click(".retry")
        browser.until(LAST, "Two.")
        browser.replied()
        browser.click(".versions .left")
        for kind in ("Markdown", "Json"):
            browser.click(".share")
            browser.click(f"#saving [data-t=export{kind}]")
        saved = browser.downloads / "Versions.json"
        until(lambda: saved.exists() and saved.with_suffix(".md").exists())
        assert "One." in saved.with_suffix(".md").read_text(encoding="utf-8")
        assert "Two." not in saved.with_suffix(".md").read_text(encoding="utf-8")
        (kept,) = json.loads(saved.read_text(encoding="utf-8"))["conversations"]
        assert [message["content"] for message in kept["messages"]] == ["Versions", "One."]
        assert kept["others"] == []
        browser.click(".top [data-t-label=settings]")
        browser.click(".settings [data-t=exportAll]")
        everything = browser.downloads / "glm4-edge.json"
        until(everything.exists)
        browser.click(".settings .danger")
        browser.click(".settings .danger")
        browser.until("return document.querySelectorAll('.list .open').length === 0")
        browser.click(".top [data-t-label=settings]")
        browser.type(str(everything), ".settings input[type=file]")
        browser.click(".list .open")
        assert browser.text(".versions span") == "1/2"


OLDER = """
const done = arguments[arguments.length - 1], request = indexedDB.open("glm4-edge", 1);
request.onsuccess = () => {
  const table = request.result.transaction("conversations", "readwrite").objectStore("conversations");
  const said = (role, content) => ({ role, content });
  table.put({ id: "a", title: "", created: 1, updated: 1, system: "", model: "", temperature: null, top_p: null,
    max_tokens: null, messages: [said("user", "One?"), said("assistant", "One."), said("user", "Two?")] });
  table.transaction.oncomplete = () => { request.result.close(); done(); };
};
"""


@pytest.mark.slow
def test_a_conversation_of_an_older_version_goes_on(browser, bare_folder):
    with scripted(bare_folder, ["\nTwo.", "\nNew."]) as (url, *_):
        browser.open(url)
        browser.driver.execute_async_script(OLDER)
        browser.reload()
        browser.click(".list .open")
        assert browser.texts(".bubble") == ["One?", "Two?"]
        edit(browser, 1, "!\n")
        browser.until(LAST, "Two.")
        browser.replied()
        browser.reload()
        browser.click(".versions .left")
        assert browser.texts(".bubble") == ["One?", "Two?"]


@pytest.mark.slow
def test_a_try_that_fails_leaves_the_reply(browser, bare_folder):
    with scripted(bare_folder, ["\nOne."]) as (url, *_):
        browser.open(url)
        browser.ask("Hello")
    browser.click(".retry")
    browser.until("return document.querySelector('.trouble')?.textContent.includes('does not answer')")
    assert browser.texts(".prose") == ["One."]
