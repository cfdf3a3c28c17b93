"""Pictures on the chat page in a real Chromium: chosen, dropped, pasted; kept with the conversation and in exports."""

import base64
import json

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("PIL.Image")

from edge.server.page.kiosk import Kiosk
from runtime.backends.backend import Delta
from runtime.backends.echo import Echo
from runtime.events import PictureProgress
from runtime.pictures import Picture

from .serving import scripted
from .test_picture_apis import picture_file, vision_folder  # noqa: F401
from .test_server import until

QUESTION = "What is this?"
READY = "return document.querySelectorAll('.chosen img').length === arguments[0]"
HAND_OVER = """
const [kind, name, type, data] = arguments;
const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
const files = new DataTransfer();
files.items.add(new File([bytes], name, { type }));
const options = { dataTransfer: files, clipboardData: files, bubbles: true, cancelable: true };
if (kind === "drop") document.body.dispatchEvent(new DragEvent("drop", options));
else document.querySelector("#prompt").dispatchEvent(new ClipboardEvent("paste", options));
"""


def hand_over(browser, kind, data, name="ferry.png", media_type="image/png"):
    browser.js(HAND_OVER, kind, name, media_type, base64.b64encode(data).decode())


def received(engine):
    """The pictures of the last prompt."""
    return [piece for piece in engine.requests[-1].prompt if isinstance(piece, Picture)]


@pytest.mark.slow
def test_a_picture_is_chosen_asked_about_and_kept(browser, vision_folder, tmp_path):  # noqa: F811
    file = tmp_path / "ferry.png"
    file.write_bytes(picture_file("navy", (40, 30)))
    with scripted(vision_folder, ["\nA ferry.", "\nBlue."]) as (url, _, engine):
        browser.open(url)
        assert browser.js("return document.querySelector('.attach').hidden") is False
        browser.type(str(file), ".attach-file")
        browser.until(READY, 1)
        assert browser.ask(QUESTION) == "A ferry."
        assert received(engine) == [Picture.open(file)]
        assert browser.js("return document.querySelector('.bubble img').naturalWidth") == 40
        assert browser.js(READY, 0)
        browser.reload()
        assert browser.js("return document.querySelector('.bubble img').alt") == "Picture"
        assert browser.ask("Its colour?") == "Blue."
        assert received(engine) == [Picture.open(file)]
        browser.click(".share")
        browser.click("#saving [data-t=exportJson]")
        saved = browser.downloads / "What-is-this.json"
        until(saved.exists)
        (conversation,) = json.loads(saved.read_text(encoding="utf-8"))["conversations"]
        assert conversation["messages"][0]["pictures"] == [Picture.open(file).to_url()]
        assert browser.complaints() == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(browser, vision_folder, kind):  # noqa: F811
    with scripted(vision_folder, ["\nA ferry."]) as (url, _, engine):
        browser.open(url)
        hand_over(browser, kind, b"no picture", "notes.png")
        browser.until("return document.querySelector('.notice')?.textContent.includes('notes.png is not a picture')")
        hand_over(browser, kind, picture_file("red"))
        browser.until(READY, 1)
        hand_over(browser, kind, picture_file("green", (3000, 1500)))
        browser.until(READY, 2)
        browser.click(".chosen .icon-button", 0)
        browser.until(READY, 1)
        browser.ask(QUESTION)
        (picture,) = received(engine)
        assert (picture.width, picture.height, picture.media_type) == (2240, 1120, "image/jpeg")


@pytest.mark.slow
def test_where_no_picture_is_read_none_is_taken(browser, bare_folder):
    with scripted(bare_folder, ["\nYes."]) as (url, _, engine):
        browser.open(url)
        assert browser.js("return document.querySelector('.attach').hidden")
        hand_over(browser, "drop", picture_file("red"))
        browser.until("return document.querySelector('.notice')?.textContent.includes('ferry.png cannot be added')")
        assert browser.ask("Hello") == "Yes."
        assert received(engine) == []


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [True, False])
def test_a_kiosk_takes_pictures_if_it_may(browser, vision_folder, allowed):  # noqa: F811
    kiosk = Kiosk(pictures=allowed)
    with scripted(vision_folder, ["\nRed."], kiosk=kiosk) as (url, _, engine):
        browser.open(url)
        assert browser.js("return document.querySelector('.attach').hidden") is not allowed
        hand_over(browser, "drop", picture_file("red"))
        if allowed:
            browser.until(READY, 1)
        assert browser.ask(QUESTION) == "Red."
        assert len(received(engine)) == allowed


@pytest.mark.slow
def test_reading_a_picture_is_shown(browser, vision_folder):  # noqa: F811
    class Looking(Echo):
        def generate(self, request):
            yield Delta("", 0, progress=PictureProgress(1, 1, 12.4, 40.0))
            until(lambda: shown)
            yield from super().generate(request)

    shown = []
    with scripted(vision_folder, ["\nA ferry."], engine=Looking) as (url, *_):
        browser.open(url)
        hand_over(browser, "drop", picture_file("red"))
        browser.until(READY, 1)
        browser.type(f"{QUESTION}\n")
        browser.until(
            "return document.querySelector('.looking')?.textContent === 'Reading the picture: 12 of about 40 s'"
        )
        shown.append(True)
        assert browser.replied() == "A ferry."
        assert not browser.all(".looking")
