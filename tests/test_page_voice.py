"""Hold to talk and read aloud, on the page and in a kiosk: a real Chromium with a microphone that plays a file."""

import wave
from contextlib import contextmanager
from time import sleep as pause

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("transformers")
pytest.importorskip("soundfile")
httpx2 = pytest.importorskip("httpx2")

import edge  # noqa: E402
from edge.server.page.kiosk import Kiosk  # noqa: E402
from runtime.backends.echo import Echo  # noqa: E402
from runtime.model import Model  # noqa: E402

from .browser import chromium  # noqa: E402
from .serving import scripted, serving_ours  # noqa: E402
from .speech_models import HEARD, write_recognition_model, write_speech_model  # noqa: E402
from .test_speech import tone  # noqa: E402

pytestmark = pytest.mark.slow
REPLY = "\nIt is *noon*. The ships\nlie here:\n\n- one\n- two\n\n```python\nprint(1)\n```\n\n?!"
SENTENCES = ["It is noon.", "The ships lie here:", "one", "two"]
# What is played, and requested: the texts of /chat/speech, and the seconds of each sound that is begun.
SPY = """
window.texts = []; window.played = [];
const { fetch: before } = window;
window.fetch = (address, options) => {
  if (String(address).endsWith("speech")) texts.push(JSON.parse(options.body).text);
  return before(address, options);
};
const { start } = AudioBufferSourceNode.prototype;
AudioBufferSourceNode.prototype.start = function () { played.push(this.buffer.duration); start.call(this); };
"""
POINTER = """
const [type] = arguments, button = document.querySelector('.microphone');
button.setPointerCapture = () => {};
button.dispatchEvent(new PointerEvent(type, { bubbles: true, pointerId: 1, button: 0 }));
"""
STATE = "return document.querySelector('.microphone').dataset.state"
RECORDS = f"{STATE} === 'recording'"


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    place = tmp_path_factory.mktemp("voices")
    whisper = edge.adopt(write_recognition_model(place / "exported"), place / "whisper")
    return whisper.path, edge.adopt(write_speech_model(place / "speecht5")).path


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """A browser whose microphone hears bursts of a tone, again and again."""
    place = tmp_path_factory.mktemp("talker")
    times = np.arange(48_000) / 48_000
    bursts = 0.6 * np.sin(2 * np.pi * (300 + 200 * times) * times) * (np.sin(2 * np.pi * 5 * times) > 0)
    with wave.open(str(place / "said.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes((bursts * 32_000).astype("<i2").tobytes())
    flags = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={place / 'said.wav'}",
    )
    with chromium(place / "profile", place, *flags) as opened:
        yield opened


@contextmanager
def scripted_beside(folder, voices, replies, **settings):
    """The fake engine beside speech models: the server's URL."""
    with serving_ours(folder.path, *voices, device="ECHO", **settings) as (url, dispatcher):
        (entry,) = dispatcher.pool.entries.values()
        entry.model = Model(folder, backend=Echo(replies))
        yield url


def down(browser, key, kind="keyDown", **settings):
    """Press a key, or with "keyUp" let it go."""
    codes = {"Enter": 13, " ": 32, "Escape": 27}
    browser.cdp("Input.dispatchKeyEvent", {"type": kind, "key": key, "windowsVirtualKeyCode": codes[key]} | settings)


def hold(browser, seconds=1.2):
    """Hold the button by a pointer, and let it go."""
    browser.js(POINTER, "pointerdown")
    browser.until(RECORDS)
    assert browser.js("return document.querySelector('.talk [role=status]').textContent")
    pause(seconds)
    browser.js(POINTER, "pointerup")


def test_what_is_said_is_text_to_correct(talker, bare_folder, voices):
    with scripted_beside(bare_folder, voices, [REPLY]) as url:
        talker.open(url)
        talker.type("Hello,")
        hold(talker)
        talker.until("return document.querySelector('#prompt').value === arguments[0]", f"Hello, {HEARD}")
        assert talker.js(STATE) == ""
        assert talker.js("return document.activeElement.id") == "prompt"
        button = talker.all(".microphone")[0]
        assert button.get_attribute("aria-label") == "Hold to talk"
        hold(talker, 0)
        talker.until("return document.querySelector('.notice')?.textContent.includes('Hold the button')")
        for key in ("Enter", " "):
            talker.js("document.querySelector('#prompt').value = ''; document.querySelector('.microphone').focus()")
            down(talker, key)
            talker.until(RECORDS)
            down(talker, key, repeat=True)
            talker.until("return document.querySelector('.microphone').ariaPressed === 'true'")
            pause(0.8)
            down(talker, key, "keyUp")
            talker.until("return document.querySelector('#prompt').value === arguments[0]", HEARD)
        talker.js("document.querySelector('.microphone').focus()")
        down(talker, "Enter")
        pause(0.6)
        down(talker, "Escape")
        talker.until(f"{STATE} === ''")
        talker.js("document.querySelector('#prompt').value = ''; document.querySelector('.microphone').click()")
        pause(0.8)  # a screen reader clicks, and clicks again
        talker.js("document.querySelector('.microphone').click()")
        talker.until("return document.querySelector('#prompt').value === arguments[0]", HEARD)
        assert talker.complaints() == []


def test_a_reply_is_read_aloud(talker, bare_folder, voices):
    with scripted_beside(bare_folder, voices, [REPLY, "\nYes."]) as url:
        talker.open(url)
        talker.js(SPY)
        talker.ask("When?")
        assert talker.js("return texts.length") == 0
        talker.click(".aloud")
        talker.until("return played.length === 4")
        assert talker.js("return texts") == SENTENCES
        talker.until("return document.querySelector('.aloud').ariaPressed === 'false'")
        talker.click(".aloud")
        talker.until("return document.querySelector('.aloud').ariaPressed === 'true'")
        assert talker.all(".aloud")[0].get_attribute("aria-label") == "Stop reading"
        talker.click(".aloud")
        talker.until("return document.querySelector('.aloud').ariaPressed === 'false'")
        talker.ask("Really?")
        assert len(talker.all(".aloud")) == 2
        talker.reload()
        assert len(talker.all(".aloud")) == 2
        assert talker.complaints() == []


def test_a_kiosk_listens_and_reads(talker, bare_folder, voices):
    kiosk = Kiosk(read_aloud=True, language="zh")
    with scripted_beside(bare_folder, voices, [REPLY, "\nYes. " * 30], kiosk=kiosk) as url:
        talker.open(url)
        talker.js(SPY)
        talker.click(".title")  # the first touch
        hold(talker)
        talker.until("return document.querySelector('.turn.user .bubble')?.textContent === arguments[0]", HEARD)
        talker.until("return played.length === 4")
        assert talker.js("return texts") == SENTENCES
        assert talker.all(".microphone")[0].get_attribute("aria-label") == "按住说话"
        talker.until("return document.querySelector('.aloud').ariaPressed === 'false'")
        talker.ask("More?")
        talker.until("return [...document.querySelectorAll('.aloud')].at(-1)?.ariaPressed === 'true'")
        talker.click(".over")
        talker.until("return document.querySelector('.greeting')")
        pause(0.5)
        before = talker.js("return played.length")
        pause(1)
        assert talker.js("return played.length") == before
        assert talker.complaints() == []


def test_the_server_decides(bare_folder, voices):
    """What the page may do, and what its server does for it, by models and settings."""
    whisper, speecht5 = voices
    recording = tone()
    for folders, kiosk, expected in (
        ((), None, (False, False, False)),
        ((whisper,), None, (True, False, False)),
        ((speecht5,), None, (False, True, False)),
        (voices, Kiosk(), (True, False, False)),
        (voices, Kiosk(read_aloud=True), (True, True, True)),
    ):
        with serving_ours(bare_folder.path, *folders, kiosk=kiosk) as (url, _), httpx2.Client(base_url=url) as http:
            facts = http.get("/chat").json()["voice"]
            assert facts == dict(zip(("transcribes", "speaks", "read_aloud"), expected, strict=True))
            policy = http.get("/").headers["permissions-policy"]
            assert policy == f"camera=(), geolocation=(), microphone=({'self' if expected[0] else ''})"
            heard = http.post("/chat/transcription", content=recording, timeout=60)
            assert heard.json().get("text") == (HEARD if expected[0] else None)
            spoken = http.post("/chat/speech", json={"text": "ships"}, timeout=60)
            assert (spoken.content[:4] == b"RIFF") == expected[1]
            if not expected[1]:
                assert spoken.status_code == (403 if kiosk else 404)
            if kiosk:
                assert http.post("/v1/audio/speech", json={"input": "ships"}).status_code == 404
            assert http.post("/chat/transcription", content=b"").status_code == 400
            other = {"origin": "http://elsewhere.example"}
            assert http.post("/chat/transcription", content=recording, headers=other).status_code == 403


def test_a_page_without_such_models(talker, bare_folder):
    with scripted(bare_folder, [REPLY]) as (url, *_):
        talker.open(url)
        talker.ask("When?")
        assert not talker.all(".microphone, .aloud")
