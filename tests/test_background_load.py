"""The terminal's model is loaded while its user types."""

import sys
from threading import Event

import pytest

import edge
from edge.cli.background_load import BackgroundLoad, prefill
from runtime.backends.echo import Echo
from runtime.errors import DeviceError
from runtime.progress import Progress

terminals = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
EDGE = """
import sys, time
import edge.cli.chat
from edge.cli import main
from runtime.errors import DeviceError
import runtime.model
edge.cli.chat._AT_ONCE = 0.0
if "fails" in sys.argv:
    sys.argv.remove("fails")
    def load(*_, **__):
        time.sleep(2)
        raise DeviceError("the device is gone", hint="plug it in")
    runtime.model.load_first = load
sys.exit(main())
"""


class ClosedChat:
    closed = False

    def close(self):
        self.closed = True


def test_a_load_says_how_far_it_is():
    reported, go_on, chat = Event(), Event(), ClosedChat()

    def load(progress):
        progress(Progress("load", done=30, total=60))
        reported.set()
        go_on.wait(10)
        return chat

    shown = []
    with BackgroundLoad(load) as loading:
        assert reported.wait(10)
        assert loading.status.startswith("loading: 50%, about ")
        assert not loading.wait(0.01)
        assert loading.result(lambda text: (shown.append(text), go_on.set())) is chat
        assert shown[0].startswith("loading: 50%")
        assert loading.status == ""
        assert not loading.failed
    assert chat.closed


def test_leaving_ends_the_load():
    started, ended = Event(), []

    def load(progress):
        started.set()
        try:
            while True:
                progress(Progress("load", done=1, total=None))
        except BaseException as exc:
            ended.append(exc)
            raise

    with BackgroundLoad(load) as loading:
        started.wait(10)
        assert loading.status == "loading"
    assert ended


def test_no_error_is_lost():
    def load(_):
        raise DeviceError("there is no such device", hint="choose another")

    with BackgroundLoad(load) as loading, pytest.raises(DeviceError, match="no such device"):
        loading.result(print)
    assert loading.failed


SYSTEM = " ".join(f"Rule {number}: be brief, be kind, and name rule {number}." for number in range(20))


class WatchedPrefill:
    """The prefill, whose end can be waited for."""

    def __init__(self):
        self._ended = Event()

    def __call__(self, chat, cancellation):
        try:
            prefill(chat, cancellation)
        finally:
            self._ended.set()

    def wait(self):
        assert self._ended.wait(60)


@pytest.fixture(scope="module")
def greedy(demo_folder):
    """Opens a chat in this process, which answers without chance."""

    def load(system):
        return lambda progress: edge.Chat(
            demo_folder.path, device="CPU", system=system, in_process=True, temperature=0, max_new_tokens=8
        )

    return load


@pytest.mark.parametrize("cancelled", [False, True], ids=["read to its end", "cancelled at once"])
def test_the_beginning_of_the_first_prompt_is_read_while_a_person_types(greedy, cancelled):
    with BackgroundLoad(greedy(SYSTEM)) as loading:
        alone = loading.result(print).send("Who are you?")
    watched = WatchedPrefill()
    with BackgroundLoad(greedy(SYSTEM), watched) as loading:
        chat = loading.result(print)
        if cancelled:
            loading.end_prefill()
        else:
            watched.wait()
        reply = chat.send("Who are you?")
        beginning = chat.model.count_tokens([edge.Message("system", SYSTEM)])
    assert str(reply) == str(alone)
    assert alone.usage.cached_tokens == 0
    if not cancelled:
        assert reply.usage.cached_tokens > beginning - 40 > 100  # all of its whole blocks of 32


def test_a_short_beginning_is_not_read(greedy):
    """It has a block of the prefix cache, but less than two."""
    system = SYSTEM[:70]
    watched = WatchedPrefill()
    with BackgroundLoad(greedy(system), watched) as loading:
        watched.wait()
        chat = loading.result(print)
        assert 40 < chat.model.count_tokens([edge.Message("system", system), edge.Message("user", "?")]) < 64
        assert chat.send("Who are you?").usage.cached_tokens == 0


def test_an_engine_that_keeps_nothing_reads_nothing_ahead(bare_folder):
    engine = Echo(["hi"])
    chat = edge.Chat(edge.Model(bare_folder, backend=engine), system=SYSTEM)
    watched = WatchedPrefill()
    with BackgroundLoad(lambda _: chat, watched):
        watched.wait()
        assert engine.requests == []


def open_chat(folder, *words):
    from .terminal import terminal

    return terminal([sys.executable, "-c", EDGE, "chat", str(folder.path), "--device", "CPU", *words])


@terminals
@pytest.mark.slow
def test_what_is_typed_meanwhile_is_answered(demo_folder, tmp_path):
    with open_chat(demo_folder) as opened:
        opened.wait_for("\n>")
        opened.type("Who are you?\r")
        assert "on CPU" in opened.wait_for("\n>")
        opened.type(f"/save {tmp_path}/chat.json\r")
        opened.wait_for("\n>")
        opened.type("/exit\r")
        assert opened.end() == 0
    assert "Who are you?" in (tmp_path / "chat.json").read_text()


@terminals
@pytest.mark.slow
@pytest.mark.parametrize("typed", ["", "half a sente", "Who are you?\r"])
def test_a_load_that_fails_ends_the_input(bare_folder, typed):
    with open_chat(bare_folder, "fails") as opened:
        opened.wait_for("\n>")
        opened.type(typed)
        opened.wait_for("the device is gone")
        opened.wait_for("plug it in")
        assert opened.end() == 1


@terminals
@pytest.mark.slow
def test_exit_does_not_wait_for_the_load(demo_folder):
    with open_chat(demo_folder) as opened:
        opened.wait_for("\n>")
        opened.type("/exit\r")
        assert opened.end(15) == 0
