"""Two tabs of the chat page in one real Chromium: nothing that is written in one is lost by the other."""

from contextlib import ExitStack, contextmanager, suppress

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from .serving import scripted
from .test_server import until

SLOW = "\nA reply that is written slowly, word by word, until its end."
BEGUN = "return document.querySelector('.turn:last-child .prose')?.textContent.length > 5"


class Tab:
    """One of the browser's tabs; within `with`, the browser shows it."""

    def __init__(self, browser, handle):
        self.browser = browser
        self.handle = handle

    def __enter__(self):
        self.browser.driver.switch_to.window(self.handle)
        return self.browser

    def __exit__(self, *_):
        pass

    def close(self):
        self.browser.driver.switch_to.window(self.handle)
        self.browser.driver.close()


@contextmanager
def two_tabs(browser, url):
    """Two tabs with the page; the second is closed at the end."""
    browser.open(url)
    first = Tab(browser, browser.driver.current_window_handle)
    browser.driver.switch_to.new_window("tab")
    second = Tab(browser, browser.driver.current_window_handle)
    try:
        with first:
            pass
        yield first, second
    finally:
        for handle in browser.driver.window_handles:
            if handle != first.handle:
                Tab(browser, handle).close()
        with first:
            pass


def visit(tab, url):
    with tab as browser:
        browser.driver.get(f"{url}/")
        browser.ready()


def replies(browser):
    return browser.texts(".turn.reply .prose")


@pytest.mark.slow
def test_a_reply_is_shown_in_both_tabs_as_it_comes_and_stopped_from_either(browser, bare_folder):
    with (
        scripted(bare_folder, ["\nOne.", SLOW], pause=0.0) as (url, dispatcher, engine),
        two_tabs(browser, url) as tabs,
    ):
        (entry,) = dispatcher.pool.entries.values()
        first, second = tabs
        with first:
            browser.ask("Hello")
        visit(second, url)
        with second:
            assert replies(browser) == ["One."]
        engine.pause = 0.1
        with first:
            browser.type("Slowly\n")
            browser.until(BEGUN)
        with second:
            browser.until(BEGUN)
            assert browser.texts(".bubble") == ["Hello", "Slowly"]
            assert browser.js("return document.querySelector('.send').dataset.tLabel") == "stop"
            browser.reload()  # it asks for what has come
            browser.until("return document.querySelector('.busy')")
            browser.until(BEGUN)
            browser.click(".send")
            browser.until("return !document.querySelector('.busy')")
            until(lambda: entry.queue.running == 0)
            assert browser.text(".turn:last-child .note") == "Stopped here."
            shown = replies(browser)
        with first:
            browser.replied()
            assert replies(browser) == shown
            assert browser.complaints() == []


LOCKLESS = "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })"


@contextmanager
def without_locks(*tabs):
    """Pages that are opened here have no locks, as those of another machine by plain HTTP."""
    added = []
    for tab in tabs:
        with tab as browser:
            script = browser.cdp("Page.addScriptToEvaluateOnNewDocument", {"source": LOCKLESS})
            added.append((tab, script))
    yield
    for tab, script in added[:1]:  # the other is closed
        with tab as browser:
            browser.cdp("Page.removeScriptToEvaluateOnNewDocument", script)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["closed", "closed later", "crashed", "without locks"])
def test_a_reply_whose_tab_is_closed_breaks_off_in_the_other(browser, bare_folder, how):
    from selenium.common.exceptions import WebDriverException

    with ExitStack() as stack:
        url, *_ = stack.enter_context(scripted(bare_folder, [SLOW], pause=0.1))
        first, second = stack.enter_context(two_tabs(browser, url))
        if how == "without locks":
            stack.enter_context(without_locks(first, second))
            visit(first, url)
        visit(second, url)
        with second:
            browser.type("Slowly\n")
            browser.until(BEGUN)
        with first:
            browser.click(".list .open")
            browser.until("return document.querySelector('.busy')")
            browser.until(BEGUN)
        with second:
            if how == "closed later":
                browser.until("return document.querySelector('.prose').textContent.length > 25")
            if how == "crashed":
                with suppress(WebDriverException):
                    browser.driver.get("chrome://crash")
            else:
                browser.driver.close()
        with first:
            browser.until("return document.querySelector('.turn:last-child .note')")
            assert "The reply broke off." in browser.text(".turn:last-child .note")
            (kept,) = replies(browser)
            assert SLOW.strip().startswith(kept)
            assert len(kept) > 5
            browser.reload()
            assert replies(browser) == [kept]
            assert "The reply broke off." in browser.text(".turn:last-child .note")


@pytest.mark.slow
def test_turns_of_both_tabs_are_kept(browser, bare_folder):
    """Both ask at the same place, as if each had not heard of the other: two versions, none lost."""
    deaf = "BroadcastChannel.prototype.postMessage = () => {}"
    with (
        scripted(bare_folder, ["\nOne.", "\nOf the first.", "\nOf the second."]) as (url, *_),
        two_tabs(browser, url) as (
            first,
            second,
        ),
    ):
        with first:
            browser.ask("Hello")
        visit(second, url)
        with first:
            browser.js(deaf)
            browser.ask("First?")
        with second:
            assert browser.texts(".bubble") == ["Hello"]
            browser.js(deaf)
            browser.ask("Second?")
            browser.reload()
            assert browser.texts(".bubble") == ["Hello", "Second?"]
            assert browser.text(".versions span") == "2/2"
            browser.click(".versions .left")
            assert browser.texts(".bubble") == ["Hello", "First?"]
            assert replies(browser) == ["One.", "Of the first."]


KEPT = """
const done = arguments[arguments.length - 1], request = indexedDB.open("glm4-edge", 1);
request.onsuccess = () => {
  const all = request.result.transaction("conversations").objectStore("conversations").getAll();
  all.onsuccess = () => { request.result.close(); done(all.result); };
};
"""


@pytest.mark.slow
def test_what_is_deleted_or_renamed_in_one_tab_is_so_in_the_other(browser, bare_folder):
    with (
        scripted(bare_folder, ["\nOne.", "\nTwo.", SLOW]) as (url, _, engine),
        two_tabs(browser, url) as (first, second),
    ):
        with first:
            browser.ask("Hello")
        visit(second, url)
        with second:
            browser.click(".list [data-t-label=rename]")
            browser.type("Greeting\n", ".list input")
        with first:
            browser.until("return document.querySelector('.list .open')?.textContent === 'Greeting'")
            browser.ask("More")
        with second:
            browser.until("return document.querySelectorAll('.bubble').length === 2")
            assert browser.texts(".list .open") == ["Greeting"]
            assert replies(browser) == ["One.", "Two."]
        engine.pause = 0.1
        with first:
            browser.type("Slowly\n")
            browser.until(BEGUN)
        with second:
            browser.click(".list [data-t-label=remove]")
        with first:
            browser.until("return document.querySelectorAll('.list .open').length === 0")
            assert browser.text(".notice span") == "“Greeting” is deleted."
            assert browser.texts(".bubble") == []
            browser.until("return !document.querySelector('.busy')")
            browser.reload()
            assert browser.texts(".list .open") == []
            kept = browser.driver.execute_async_script(KEPT)
            assert [sorted(one) for one in kept] == [["deleted", "id"]]  # no word of it is left
        engine.pause = 0
        with second:
            browser.click(".notice .button")  # undo
        with first:
            browser.until("return document.querySelectorAll('.list .open').length === 1")
            browser.click(".list .open")
            assert browser.texts(".bubble")[:2] == ["Hello", "More"]


@pytest.mark.slow
def test_each_tab_comes_back_to_its_own_place(browser, bare_folder):
    with scripted(bare_folder, []) as (url, *_), two_tabs(browser, url) as (first, second):
        with first:
            browser.ask("One")
            browser.type("a draft")
        visit(second, url)
        with second:
            browser.click(".new")
            browser.js("document.querySelector('#prompt').value = ''")
            browser.ask("Two")
            browser.type("another")
        with first:
            browser.reload()
            assert browser.texts(".bubble") == ["One"]
            assert browser.js("return document.querySelector('#prompt').value") == "a draft"
        with second:
            browser.reload()
            assert browser.texts(".bubble") == ["Two"]
            assert browser.js("return document.querySelector('#prompt').value") == "another"
