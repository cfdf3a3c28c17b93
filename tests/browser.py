"""A real Chromium without a window, for tests of the page. It is skipped where there is none."""

import json
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,900"
).split()


class Browser:
    """What a person does with the page: looks, clicks, types, waits."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads
        self.js = driver.execute_script
        self.cdp = driver.execute_cdp_cmd

    def open(self, url: str, *, language: str = "en-US") -> None:
        """The page as a new visitor sees it."""
        agent = self.js("return navigator.userAgent")
        self.cdp("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": language})
        self.driver.get("about:blank")  # the page before must not write as it is left
        self.cdp("Storage.clearDataForOrigin", {"origin": url, "storageTypes": "all"})
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get(f"{url}/")
        self.ready()

    def reload(self) -> None:
        self.driver.refresh()
        self.ready()

    def ready(self) -> None:
        self.until("return document.documentElement.dataset.ready === ''")

    def until(self, script: str, *arguments: Any, seconds: float = 120) -> Any:
        """Waits for a script's true answer, and gives it."""
        end = time.monotonic() + seconds
        while not (found := self.js(script, *arguments)):
            assert time.monotonic() < end, f"{script}\n{self.text('body')}"
            time.sleep(0.02)
        return found

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def click(self, selector: str, index: int = 0) -> None:
        """As a mouse does; what is not there yet is waited for."""
        self.until("return document.querySelectorAll(arguments[0]).length > arguments[1]", selector, max(index, 0))
        self.all(selector)[index].click()

    def text(self, selector: str, index: int = 0) -> str:
        """All text of an element, also what is folded."""
        found = self.js("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)
        return str(found[index])

    def texts(self, selector: str) -> list[str]:
        return list(self.js("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector))

    def type(self, text: str, selector: str = "#prompt") -> None:
        self.all(selector)[0].send_keys(text)

    def ask(self, text: str) -> str:
        """Sends a message, and gives the reply's words when it is at its end."""
        before = len(self.all(".turn.reply"))
        self.type(f"{text}\n")
        self.until("return document.querySelectorAll('.turn.reply').length > arguments[0]", before)
        return self.replied()

    def replied(self) -> str:
        self.until("return !document.querySelector('.busy')")
        return "\n".join(
            self.js("return [...document.querySelectorAll('.turn:last-child .prose')].map(e => e.innerText)")
        )

    def requested(self) -> set[str]:
        """The addresses that were asked for since the last time, by the network log; not what the policy refused."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        refused = {
            m["params"]["requestId"]
            for m in messages
            if m["method"] == "Network.loadingFailed" and m["params"].get("blockedReason") == "csp"
        }
        return {
            m["params"]["request"]["url"]
            for m in messages
            if m["method"] == "Network.requestWillBeSent" and m["params"]["requestId"] not in refused
        }

    def complaints(self) -> list[str]:
        """What the browser's console has to say: scripts that failed, things that the policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "DEBUG"]


@contextmanager
def chromium(profile: Path, downloads: Path, *flags: str) -> Generator[Browser, None, None]:
    webdriver = pytest.importorskip("selenium.webdriver")
    chrome, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chrome is None or driver is None:
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.binary_location = chrome
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))  # its path given, it fetches nothing
    opened.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    opened.set_script_timeout(30)
    opened.set_page_load_timeout(30)
    try:
        yield Browser(opened, downloads)
    finally:
        opened.quit()
