"""How many generators a token passes between the engine and the application, or the HTTP chunk."""

import inspect
import sys
import threading
from pathlib import Path

import pytest

import edge
import runtime
from runtime.backends.backend import Delta
from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.model import Model

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from .serving import scripted  # noqa: E402

OURS = tuple(str(Path(package.__file__).resolve().parent) for package in (edge, runtime))
GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
ASK = {"messages": [{"role": "user", "content": "Who are you?"}], "stream": True}


def generators(frame):
    """The generators of ours that are on the stack, the innermost first."""
    found = []
    while frame is not None:
        code = frame.f_code
        ours = code.co_filename.startswith(OURS) and code.co_name != "<genexpr>"  # such as a list's, run at once
        if code.co_flags & GENERATOR and ours:
            found.append(code.co_qualname)
        frame = frame.f_back
    return found


class Counting(Echo):
    """Records the generators between it and the thread's loop for each token."""

    deepest: tuple[str, ...] = ()

    def generate(self, request):
        for part in super().generate(request):
            if isinstance(part, Delta):
                found = ("Backend.generate", *generators(sys._getframe()))
                self.deepest = max(self.deepest, found, key=len)
            yield part


def test_a_chat(bare_folder):
    engine = Counting(["\nHi there."])
    with Chat(Model(bare_folder, backend=engine)) as chat:
        assert chat.send("Hi").text == "Hi there."
    assert len(engine.deepest) == 3, engine.deepest


@pytest.fixture
def in_the_loop():
    """The deepest row of generators that an event passes in the event loop's thread."""
    deepest = [()]

    def record(frame, event, _):
        if event == "call" and frame.f_code.co_flags & GENERATOR and threading.current_thread().name != "reply":
            deepest[0] = max(deepest[0], tuple(generators(frame)), key=len)

    threading.setprofile(record)
    yield deepest
    threading.setprofile(None)


# Each path's body, and its generators in the reply's thread (the engine's own among them) and in the event loop's.
STREAMS = {
    "/v1/chat/completions": (ASK, 2, 1),
    "/v1/completions": ({"prompt": "Hi", "stream": True}, 2, 1),
    "/v1/responses": ({"input": "Hi", "stream": True}, 2, 1),
    "/chat": (ASK, 3, 1),
}


@pytest.mark.parametrize(("path", "case"), STREAMS.items(), ids=STREAMS.keys())
def test_a_stream_of_the_server(bare_folder, in_the_loop, path, case):
    body, threads, loops = case
    with scripted(bare_folder, [], engine=Counting) as (url, _, engine):
        text = httpx2.post(f"{url}{path}", json=body, timeout=30).text
    assert text.count("data: ") > 2, text
    assert len(engine.deepest) == threads, engine.deepest
    assert len(in_the_loop[0]) == loops, in_the_loop
