"""Tools that exit, interrupt, hang, return too much: a tool's error, never the process's end nor a reply's."""

import argparse
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing
from threading import Event, Thread

import pytest

from runtime import tool_run
from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.errors import RequestError
from runtime.events import Finish, ToolCall, ToolResult
from runtime.model import Model
from runtime.system.native_effects import disable_alternate_signal_stack
from runtime.tool_call import run_call
from runtime.tools import Tool, to_tools

LET_GO = Event()  # ends the tools that hang


@pytest.fixture(autouse=True)
def ended_after():
    LET_GO.clear()
    yield
    LET_GO.set()


def parses() -> str:
    """A command line."""
    return str(argparse.ArgumentParser(exit_on_error=True).parse_args(["--what"]))


def exits() -> str:
    sys.exit("enough")


def interrupts() -> str:
    raise KeyboardInterrupt


def leaves() -> str:
    raise GeneratorExit


class Speechless(Exception):
    def __str__(self) -> str:
        return str(sys.exit(3))


def speechless() -> str:
    raise Speechless


class Unprintable:
    def __str__(self) -> str:
        raise KeyboardInterrupt


def unprintable() -> Unprintable:
    return Unprintable()


def endless_error() -> str:
    raise ValueError("x" * 10_000_000)


def much() -> str:
    return "x" * 10_000_000


def many() -> list[int]:
    return list(range(1_000_000))


def hangs() -> str:
    """A tool that does not come back."""
    LET_GO.wait(60)
    return "late"


def fine() -> str:
    return "fine"


def chat_of(folder, *replies, **settings):
    return Chat(Model(folder, backend=Echo(replies)), **settings)


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        (parses, "exited with 2"),
        (exits, "exited with 'enough'"),
        (interrupts, "KeyboardInterrupt"),
        (leaves, "GeneratorExit"),
        (speechless, "Speechless"),
        (unprintable, "KeyboardInterrupt"),
        (endless_error, "cut off"),
    ],
)
def test_what_a_tool_raises_is_its_error(bare_folder, tool, words):
    with closing(chat_of(bare_folder, f"{tool.__name__}\n{{}}", "\nSorry.", tools=[tool])) as chat:
        reply = chat.send("?")
    (result,) = reply.tool_results
    assert result.error
    assert words in result.content
    assert len(result.content) < 70_000
    assert reply.text.strip() == "Sorry."


@pytest.mark.parametrize("tool", [much, many])
@pytest.mark.parametrize("longest", [100, 4000])
def test_a_result_is_cut_and_says_so(bare_folder, tool, longest):
    with closing(chat_of(bare_folder, f"{tool.__name__}\n{{}}", tools=[tool], max_tool_characters=longest)) as chat:
        (result,) = chat.send("?").tool_results
    assert len(result.content) == longest
    assert not result.error
    assert result.content.splitlines()[-1].startswith(f"[cut off: {longest:,} of ")
    own = Tool.from_function(tool, max_characters=200)
    assert len(run_call(to_tools([own]), ToolCall(tool.__name__, "{}"), max_characters=longest).content) == 200


def test_a_tool_has_a_time_limit_and_its_late_result_is_dropped(bare_folder):
    calls = "hangs\n{}"
    with closing(chat_of(bare_folder, calls, "\nToo slow.", calls, tools=[hangs], tool_timeout=0.2)) as chat:
        start = time.monotonic()
        reply = chat.send("?")
        assert time.monotonic() - start < 5
        before = chat.history
        LET_GO.set()
        time.sleep(0.05)
        assert chat.history == before
    (result,) = reply.tool_results
    assert result.error
    assert "hangs did not finish within 0.2 seconds" in result.content
    LET_GO.clear()
    assert run_call(
        to_tools([Tool.from_function(hangs, timeout=0.1)]), ToolCall("hangs", "{}")
    ).error  # the tool's own limit


def test_what_a_tool_opens_serves_its_next_call(bare_folder):
    """A connection of sqlite3 is for the thread that opened it; after a tool that hung there is another thread."""
    opened, threads = [], set()

    def rows() -> int:
        threads.add(threading.get_ident())
        if not opened:
            opened.append(sqlite3.connect(":memory:"))
            opened[0].execute("create table visits (at)")
        opened[0].execute("insert into visits values (1)")
        return opened[0].execute("select count(*) from visits").fetchone()[0]

    def shut() -> None:
        threads.add(threading.get_ident())
        if opened:
            opened.pop().close()

    replies = ["rows\n{}<|assistant|>rows\n{}", "\nTwo.", "rows\n{}", "\nThree.", "shut\n{}", "\nShut."]
    replies += ["hangs\n{}", "\nSlow.", "shut\n{}", "\nGood."]
    tools = [rows, shut, Tool.from_function(hangs, timeout=0.1)]
    with closing(chat_of(bare_folder, *replies, tools=tools)) as chat:
        results = [[result.content for result in chat.send("?").tool_results] for _ in range(3)]
        assert results == [["1", "2"], ["3"], ["null"]]
        assert threads.isdisjoint({threading.get_ident()})
        assert len(threads) == 1
        assert chat.send("?").tool_results[0].error
        assert not chat.send("?").tool_results[0].error
        assert len(threads) == 2


def test_a_chats_thread_ends_with_it(bare_folder):
    before = set(threading.enumerate())
    for close in (True, False):
        chat = chat_of(bare_folder, "fine\n{}", "\nFine.", tools=[fine])
        chat.send("?")
        (thread,) = set(threading.enumerate()) - before
        if close:
            chat.close()
        del chat
        thread.join(10)
        assert not thread.is_alive()


def test_a_tool_is_not_waited_for_when_its_reply_is_cancelled(bare_folder):
    started = Event()

    def stuck() -> str:
        started.set()
        return hangs()

    with closing(chat_of(bare_folder, "stuck\n{}", "\nNever.", "\nGood.", tools=[stuck])) as chat:
        events = []
        reader = Thread(target=lambda: events.extend(chat.stream("?")))
        reader.start()
        assert started.wait(10)
        chat.cancel()
        reader.join(5)
        assert not reader.is_alive()
        assert isinstance(events[-1], Finish)
        assert events[-1].reason == "cancelled"
        assert not any(isinstance(event, ToolResult) for event in events)
        assert [(m.role, m.content) for m in chat.history][-1] == ("tool", "cancelled")


@pytest.mark.skipif(sys.platform == "win32", reason="raise_signal does not interrupt a wait there")
def test_ctrl_c_while_a_tool_runs_is_not_the_tools(bare_folder):
    def stuck() -> str:
        Thread(target=lambda: (time.sleep(0.2), os.kill(os.getpid(), signal.SIGINT))).start()
        return hangs()

    disable_alternate_signal_stack()  # other tests have loaded models in this thread
    with closing(chat_of(bare_folder, "stuck\n{}", "\nGood.", tools=[stuck])) as chat:
        with pytest.raises(KeyboardInterrupt):
            chat.send("?")
        assert chat.history[-1].role == "tool"  # every call has an answer, so the chat can go on
        assert chat.send("And now?").finish_reason == "stop"


def test_tools_that_never_end_do_not_pile_up(monkeypatch):
    end = time.monotonic() + 10
    while tool_run.abandoned() and time.monotonic() < end:  # those of the test before
        time.sleep(0.02)
    monkeypatch.setattr(tool_run, "_ABANDONED", tool_run.abandoned() + 3)
    box = to_tools([hangs, fine])
    before = threading.active_count()
    for _ in range(5):
        run_call(box, ToolCall("hangs", "{}"), timeout=0.05)
    assert threading.active_count() <= before + 3
    assert "tools still run" in run_call(box, ToolCall("fine", "{}")).content
    LET_GO.set()
    end = time.monotonic() + 10
    while (result := run_call(box, ToolCall("fine", "{}"))).error and time.monotonic() < end:
        time.sleep(0.02)
    assert result.content == "fine"


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "1", True])
def test_limits_that_make_no_sense_are_refused(bare_folder, limit):
    with pytest.raises(RequestError):
        chat_of(bare_folder, tool_timeout=limit)
    with pytest.raises(RequestError):
        Tool.from_function(fine, timeout=limit)
    with pytest.raises(RequestError):
        Tool.from_function(fine, max_characters=limit if limit != 0 else 10)


def test_a_server_survives_its_tools(bare_folder):
    pytest.importorskip("starlette")
    httpx2 = pytest.importorskip("httpx2")
    from edge.server.limits import Limits

    from .serving import scripted

    replies = ["exits\n{}", "\nOne.", "hangs\n{}", "\nTwo.", "hangs\n{}", "\nThree."]
    limits = Limits(running=1, tool_seconds=0.3)
    tools = tuple(to_tools([exits, hangs]).values())
    with scripted(bare_folder, replies, tools=tools, limits=limits) as (url, *_):
        for words in ("One.", "Two.", "Three."):
            asked = {"messages": [{"role": "user", "content": "?"}]}
            answer = httpx2.post(f"{url}/chat", json=asked, trust_env=False, timeout=30)
            assert answer.status_code == 200
            texts = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith('data: {"text"')]
            assert "".join(event["text"] for event in texts).strip() == words
