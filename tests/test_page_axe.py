"""The page's accessibility by axe-core's rules, in a real Chromium: tests/environments/axe.sh."""

import os
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("PIL.Image")

import edge
from edge.server.page.kiosk import Kiosk

from .serving import scripted
from .test_page_tools import CALL, PYTHON, WAITS, browse, switch_on
from .test_page_voice import REPLY, scripted_beside, voices  # noqa: F401
from .test_picture_apis import picture_file, vision_folder  # noqa: F401
from .test_picture_page import QUESTION, READY, hand_over

pytestmark = [pytest.mark.axe, pytest.mark.slow]
RUN = "const done = arguments[arguments.length - 1]; axe.run().then((found) => done(found.violations.map(describe)));"
DESCRIBE = "window.describe = ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(' ')}`;"


def violations(browser):
    browser.js(Path(os.environ["AXE_CORE"]).read_text(encoding="utf-8") + DESCRIBE)
    return browser.driver.execute_async_script(RUN)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kiosk", [None, Kiosk(pictures=True, suggestions=["Why?"])], ids=["page", "kiosk"])
def test_it_breaks_no_rule(browser, vision_folder, kiosk, theme):  # noqa: F811
    with scripted(vision_folder, ["\nA **ferry**:\n\n- blue\n- old\n\n`x = 1`"] * 2, kiosk=kiosk) as (url, *_):
        browser.open(url)
        browser.cdp("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
        try:
            assert violations(browser) == []
            hand_over(browser, "drop", picture_file("red"))
            browser.until(READY, 1)
            assert violations(browser) == []
            assert "ferry" in browser.ask(QUESTION)
            assert violations(browser) == []
            if kiosk is None:
                browser.click(".top [data-t-label=settings]")
                assert violations(browser) == []
        finally:
            browser.cdp("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kiosk", [None, Kiosk(read_aloud=True)], ids=["page", "kiosk"])
def test_voice_breaks_no_rule(browser, bare_folder, voices, kiosk, theme):  # noqa: F811
    with scripted_beside(bare_folder, voices, [REPLY], kiosk=kiosk) as url:
        browser.open(url)
        browser.cdp("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
        try:
            browser.ask("When?")
            assert len(browser.all(".microphone, .aloud")) == 2
            assert violations(browser) == []
            browser.js("document.querySelector('.microphone').dataset.state = 'recording'")
            assert violations(browser) == []
        finally:
            browser.cdp("Emulation.setEmulatedMedia", {"features": []})


RICH = r"""
A **table**[^1], \(x^2\) and

$$\sqrt{x}$$

| a | b |
|---|--:|
| 1 | 2 |

- [x] done
- [ ] to do

```python
def area(r):  # of a circle
    return 3.14 * r ** 2, "m"
```

[^1]: Its note.
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_replies_contain_breaks_no_rule(browser, bare_folder, theme):
    """Formulas, code, lists, versions, citations, a call that waits, settings of tools; also on a phone."""
    replies = ["\n" + RICH, "\n" + RICH, '\nbrowse\n{"query": "fares"}', "\n12 crowns【7†source】.", CALL]
    tools = (PYTHON, edge.Tool.from_function(browse))
    with scripted(bare_folder, replies, tools=tools) as (url, *_):
        browser.open(url)
        browser.cdp("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
        try:
            browser.ask("Rich?")
            browser.click(".retry")
            browser.until("return document.querySelector('.versions') && !document.querySelector('.busy')")
            browser.until("return document.querySelector('.drawn') && document.querySelector('.code-keyword')")
            assert violations(browser) == []
            browser.ask("Fare?")
            browser.click(".cite")
            assert violations(browser) == []
            browser.type("\ue00c", ".cited")
            switch_on(browser)
            browser.type("Run\n")
            browser.until(WAITS)
            assert violations(browser) == []
            browser.click(".top [data-t-label=settings]")
            assert violations(browser) == []
            browser.click(".settings [data-t-label=close]")
            screen = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
            browser.cdp("Emulation.setDeviceMetricsOverride", screen)
            assert violations(browser) == []
            assert browser.js("return document.documentElement.scrollWidth") == 360
        finally:
            browser.cdp("Emulation.clearDeviceMetricsOverride", {})
            browser.cdp("Emulation.setEmulatedMedia", {"features": []})
