"""The page's accessibility by axe-core's rules, in a real Chromium: tests/environments/axe.sh."""

import os
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("PIL.Image")

from edge.server.page.kiosk import Kiosk

from .serving import scripted
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
