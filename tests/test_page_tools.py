"""Tools on the chat page, in a real Chromium: switches, approval, pictures and citations of results."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

import edge
from runtime.events import Citation

from .serving import scripted
from .test_page_tabs import two_tabs, visit

ran = []


def python(code: str) -> str:
    """Run Python code."""
    ran.append(code)
    return "3"


def chart(kind: str) -> list[object]:
    """Draw a chart."""
    return ["a chart", edge.Picture.open(np.zeros((30, 40, 3), np.uint8))]


def browse(query: str) -> edge.ToolOutput:
    """Search the web."""
    return edge.ToolOutput("found", citations=(Citation("fares.html", "line 12", "A crossing costs 12 crowns.", 7),))


PYTHON = replace(edge.Tool.from_function(python), approval=True)
CHART = edge.Tool.from_function(chart)
CALL = '\npython\n{"code": "a = 1\\nprint(a + 2)"}'
WAITS = "return document.querySelectorAll('.approval button').length && !document.querySelector('.busy')"


def call_of(code):
    return f"\npython\n{json.dumps({'code': code})}"


def needs_sandbox():
    from edge.toolkit.python_tool import find_confinement
    from runtime.errors import ToolError

    try:
        find_confinement()
    except ToolError as exc:
        pytest.skip(str(exc))


@pytest.fixture(autouse=True)
def _nothing_ran():
    ran.clear()


def switch_on(browser):
    browser.click(".top [data-t-label=settings]")
    browser.click(".tool input")
    browser.click(".settings [data-t-label=close]")


@pytest.mark.slow
def test_a_tool_that_asks_is_off_until_it_is_switched_on(browser, bare_folder):
    from runtime.backends.echo import spelled

    with scripted(bare_folder, ["\nNo.", "\nYes.", "\nNew."], tools=(PYTHON, CHART)) as (url, _, engine):
        browser.open(url)
        browser.ask("Hello")
        assert "Run Python code" not in spelled(engine.requests[0].prompt)
        assert "Draw a chart" in spelled(engine.requests[0].prompt)
        switch_on(browser)
        browser.reload()
        browser.ask("Again")
        assert "Run Python code" in spelled(engine.requests[1].prompt)
        browser.click(".new")  # begins with the settings of the last one
        browser.ask("New")
        assert "Run Python code" in spelled(engine.requests[2].prompt)


@pytest.mark.slow
def test_a_call_is_shown_and_runs_after_a_yes(browser, bare_folder):
    with scripted(bare_folder, [CALL, "\nIt is 3."], tools=(PYTHON,)) as (url, *_):
        browser.open(url)
        switch_on(browser)
        browser.type("What is 1 + 2?\n")
        browser.until(WAITS)
        assert browser.text(".call code") == "a = 1\nprint(a + 2)"
        assert browser.text(".approval p") == "May python run?"
        assert browser.text(".call .state") == "waits for you"
        assert ran == []
        browser.reload()  # the question stays
        browser.until(WAITS)
        browser.js("document.querySelector('.approval button').focus()")
        browser.driver.switch_to.active_element.send_keys("\n")
        browser.until("return document.querySelector('.turn:last-child .prose')?.textContent === 'It is 3.'")
        browser.replied()
        assert ran == ["a = 1\nprint(a + 2)"]
        assert browser.text(".call .state") == "done"
        assert browser.all(".approval") == []
        assert len(browser.all(".turn")) == 2
        before = browser.text("#thread")
        browser.reload()
        assert browser.text("#thread") == before
        assert browser.complaints() == []


@pytest.mark.slow
def test_a_call_does_not_run_after_a_no_or_another_question(browser, bare_folder):
    from runtime.backends.echo import spelled

    with scripted(bare_folder, [CALL, CALL, "\nWell.", "\nOther."], tools=(PYTHON,)) as (url, _, engine):
        browser.open(url)
        switch_on(browser)
        browser.type("One\n")
        browser.until(WAITS)
        browser.click(".approval [data-t=approveNot]")
        browser.until(WAITS)  # the model calls again
        assert browser.text(".call .state") == "failed"
        assert "declined" in spelled(engine.requests[1].prompt)
        browser.type("Two\n")
        browser.until("return document.querySelector('.turn:last-child .prose')?.textContent === 'Well.'")
        browser.replied()
        assert spelled(engine.requests[2].prompt).count("declined") == 2
        assert browser.all(".approval") == []
        assert browser.texts(".call .state") == ["failed", "not run"]
        assert ran == []


@pytest.mark.slow
def test_always_is_for_one_conversation(browser, bare_folder):
    with scripted(bare_folder, [CALL, CALL, "\nSix.", CALL, "\nThree."], tools=(PYTHON,)) as (url, *_):
        browser.open(url)
        switch_on(browser)
        browser.type("One\n")
        browser.until(WAITS)
        browser.click(".approval [data-t=approveAlways]")
        browser.until("return document.querySelector('.turn:last-child .prose')?.textContent === 'Six.'")
        browser.replied()
        assert len(ran) == 2
        browser.click(".new")
        browser.type("Two\n")
        browser.until(WAITS)
        assert len(ran) == 2


@pytest.mark.slow
def test_a_failed_decision_can_be_made_again(browser, bare_folder):
    with scripted(bare_folder, [CALL], tools=(PYTHON,)) as (url, *_):
        browser.open(url)
        switch_on(browser)
        browser.type("One\n")
        browser.until(WAITS)
    browser.click(".approval [data-t=approveRun]")
    browser.until("return document.querySelector('.trouble')?.textContent.includes('does not answer')")
    browser.until(WAITS)
    assert browser.js("return document.querySelectorAll('.approval button:enabled').length") == 3


@pytest.mark.slow
def test_another_tab_decides(browser, bare_folder):
    with scripted(bare_folder, [CALL, "\nIt is 3."], tools=(PYTHON,)) as (url, *_), two_tabs(browser, url) as tabs:
        first, second = tabs
        with first:
            switch_on(browser)
            browser.type("One\n")
            browser.until(WAITS)
        visit(second, url)
        with second:
            browser.until(WAITS)
            browser.click(".approval button")
            browser.until("return document.querySelector('.turn:last-child .prose')?.textContent === 'It is 3.'")
        with first:
            browser.until("return document.querySelector('.turn:last-child .prose')?.textContent === 'It is 3.'")
            assert browser.texts(".call .state") == ["done"]
        assert len(ran) == 1


@pytest.mark.slow
def test_a_picture_of_a_result_is_shown_and_kept(browser, bare_folder):
    with scripted(bare_folder, ['\nchart\n{"kind": "pie"}', "\nSee."], tools=(CHART,)) as (url, *_):
        browser.open(url)
        assert browser.ask("Draw") == "See."
        for _ in range(2):
            assert browser.js("return document.querySelector('.reply .pictures img').naturalWidth") == 40
            assert browser.all(".reply .pictures img")[0].is_displayed()
            browser.reload()


@pytest.mark.slow
def test_a_result_is_cited(browser, bare_folder):
    replies = ['\nbrowse\n{"query": "fares"}', "\n12 crowns【7†source】, not 13【8†source】."]
    with scripted(bare_folder, replies, tools=(edge.Tool.from_function(browse),)) as (url, *_):
        browser.open(url)
        browser.ask("Fare?")
        for _ in range(2):
            assert browser.text(".prose:last-child") == "12 crowns7, not 13【8†source】."
            browser.click(".cite")
            assert browser.text(".cited p") == "fares.html, line 12"
            assert browser.text(".cited pre") == "A crossing costs 12 crowns."
            browser.type("\ue00c", ".cited")
            browser.until("return !document.querySelector('.cited:popover-open')")
            assert browser.js("return document.activeElement.className") == "cite"
            browser.reload()


@pytest.mark.slow
def test_the_python_tool_keeps_its_variables_and_shows_its_plots(browser, bare_folder):
    pytest.importorskip("matplotlib")
    needs_sandbox()
    plot = "import matplotlib.pyplot as plt\nplt.plot([1, a])\nplt.show()\nprint(a + 1)"
    calls = [call_of("a = 6 * 7\nprint(a)"), call_of(plot), "\nDone."]
    with scripted(bare_folder, calls, tools=edge.builtin_tools("python")) as (url, *_):
        browser.open(url)
        switch_on(browser)
        browser.type("Go\n")
        for calls in (1, 2):
            browser.until("return document.querySelectorAll('.call').length === arguments[0]", calls)
            browser.until(WAITS)
            browser.click(".approval button")
        browser.until("return document.querySelector('.turn:last-child .prose')?.textContent === 'Done.'")
        browser.replied()
        assert browser.texts(".call .state") == ["done", "done"]
        assert browser.text(".call code", 1) == "42"
        assert "43" in browser.text(".call code", 3)
        browser.until("return document.querySelector('.reply .pictures img')?.naturalWidth > 100")
        assert browser.complaints() == []
