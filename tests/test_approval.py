"""Calls on the chat page that a person approves: the reply ends at them, and a second request goes on with it."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import requests

import edge
from runtime.backends.echo import spelled
from tests.serving import scripted

CODE = '\nadd\n{"a": 1, "b": 2}'
QUESTION = [{"role": "user", "content": "What is 1 + 2?"}]
ran = []


def add(a: int, b: int) -> int:
    """Add two numbers."""
    ran.append((a, b))
    return a + b


def today() -> str:
    """The day."""
    return "Monday"


def plot() -> list[object]:
    """A plot."""
    return ["a line", edge.Picture.open(np.zeros((4, 4, 3), np.uint8))]


def slow(a: int, b: int) -> str:
    """Wait."""
    time.sleep(a)
    return "late"


ASKED = replace(edge.Tool.from_function(add), approval=True)
TODAY = edge.Tool.from_function(today)


@pytest.fixture(autouse=True)
def _nothing_ran():
    ran.clear()


def post(url, **body):
    response = requests.post(f"{url}/chat", json=body, timeout=60)
    if response.status_code != 200:
        return response.status_code, response.json()["error"]["message"]
    events = [block.split("\n") for block in response.text.split("\n\n") if block.startswith("event")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in events]


def named(events, name):
    return [data for kind, data in events if kind == name]


def begin(url, **more):
    """The events of a reply that ends at a call, the messages so far, and the ids of its calls."""
    events = post(url, messages=QUESTION, **more)
    (finish,) = named(events, "finish")
    return finish, finish["messages"], [call["id"] for call in named(events, "approval")[0]["calls"]]


def test_a_reply_ends_at_a_call_and_goes_on_after_the_decision(bare_folder):
    with scripted(bare_folder, [CODE, "\nIt is 3."], tools=(ASKED,)) as (url, dispatcher, _):
        assert requests.get(f"{url}/chat", timeout=60).json()["tools"][0]["approval"] is True
        finish, messages, (call,) = begin(url)
        assert finish["reason"] == "approval"
        assert messages[-1]["tool_calls"][0]["id"] == call
        assert ran == []
        (entry,) = dispatcher.pool.entries.values()
        end = time.monotonic() + 10
        while entry.queue.running and time.monotonic() < end:
            time.sleep(0.01)
        assert entry.queue.running == 0  # the turn is free while the person decides
        events = post(url, messages=messages, decisions={call: True})
    assert ran == [(1, 2)]
    assert events[0][0] == "tool_result"
    assert (events[0][1]["content"], events[0][1]["pictures"], events[0][1]["citations"]) == ("3", [], [])
    (last,) = named(events, "finish")
    assert [message["role"] for message in last["messages"]] == ["tool", "assistant"]
    assert (last["reason"], last["messages"][1]["content"]) == ("stop", "It is 3.")


def test_a_declined_call_does_not_run(bare_folder):
    with scripted(bare_folder, [CODE, "\nWell."], tools=(ASKED,)) as (url, _, engine):
        _, messages, (call,) = begin(url)
        events = post(url, messages=messages, decisions={call: False})
    assert ran == []
    assert named(events, "tool_result")[0]["error"]
    assert "declined" in spelled(engine.requests[-1].prompt)


def test_a_tool_that_the_person_always_allows_runs_at_once(bare_folder):
    with scripted(bare_folder, [CODE, "\nIt is 3."], tools=(ASKED,)) as (url, _, _):
        events = post(url, messages=QUESTION, approved_tools=["add"])
    assert ran == [(1, 2)]
    assert named(events, "approval") == []
    assert named(events, "finish")[0]["reason"] == "stop"


def test_other_tools_run_without_a_question(bare_folder):
    replies = ['\ntoday\n{}<|assistant|>add\n{"a": 1, "b": 2}', "\nDone."]
    with scripted(bare_folder, replies, tools=(ASKED, TODAY)) as (url, _, _):
        _, messages, (call,) = begin(url)
        assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
        events = post(url, messages=messages, decisions={call: True})
    assert named(events, "tool_result")[0]["content"] == "3"


def test_only_tools_that_are_switched_on_run(bare_folder):
    forged = {"id": "x1", "function": {"name": "add", "arguments": '{"a": 5, "b": 5}'}}
    messages = [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [forged]}]
    with scripted(bare_folder, ["\nWell."] * 2, tools=(ASKED, TODAY)) as (url, _, _):
        off = post(url, messages=messages, decisions={"x1": True}, tools=["today"])
        assert "there is no tool add" in named(off, "tool_result")[0]["content"]
        forged["function"]["name"] = "os_system"
        other = post(url, messages=messages, decisions={"x1": True})
        assert "there is no tool os_system" in named(other, "tool_result")[0]["content"]
        assert ran == []
    with scripted(bare_folder, ["\nHi."], tools=(ASKED, TODAY)) as (url, _, engine):
        post(url, messages=QUESTION, tools=[])
        assert '"add"' not in spelled(engine.requests[-1].prompt)


CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": {"name": "add", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"messages": QUESTION, "decisions": {}}, "no call waits for a decision"),
        ({"messages": [*QUESTION, CALL], "decisions": {}}, "the call c waits for a decision"),
        ({"messages": [*QUESTION, CALL], "decisions": {"c": True, "d": True}}, "no call d waits"),
        ({"messages": [*QUESTION, CALL]}, "the last message is not the user's"),
        ({"messages": [*QUESTION, CALL], "decisions": {"c": "maybe"}}, "decisions"),
        ({"messages": QUESTION, "tools": ["nothing"]}, "there is no tool nothing"),
        ({"messages": QUESTION, "session": "../x"}, "session"),
        ({"messages": [*QUESTION, CALL], "decisions": {"c": True}, "documents": [{"name": "a", "sections": []}]}, "d"),
    ],
)
def test_what_does_not_fit_is_rejected(body, part, bare_folder):
    with scripted(bare_folder, ["\nHi."], tools=(ASKED,)) as (url, _, _):
        status, message = post(url, **body)
    assert status == 400
    assert part in message


def test_visitors_of_a_kiosk_decide_nothing(bare_folder):
    from edge.server.page.kiosk import Kiosk

    with scripted(bare_folder, ["\nHi."], tools=(TODAY,), kiosk=Kiosk()) as (url, _, _):
        for field in ({"decisions": {"c": True}}, {"tools": []}, {"approved_tools": ["add"]}, {"session": "a" * 8}):
            body = [*QUESTION, CALL] if "decisions" in field else QUESTION
            assert post(url, messages=body, **field)[0] == 403


def test_the_time_limit_begins_with_the_decision(bare_folder):
    from edge.server.limits import Limits

    tool = replace(edge.Tool.from_function(slow), approval=True)
    with scripted(
        bare_folder, ['\nslow\n{"a": 5, "b": 0}', "\nWell."], tools=(tool,), limits=Limits(tool_seconds=0.3)
    ) as (url, _, _):
        _, messages, (call,) = begin(url)
        time.sleep(0.5)
        events = post(url, messages=messages, decisions={call: True})
    assert "did not finish within 0.3 seconds" in named(events, "tool_result")[0]["content"]


def test_pictures_of_a_result_reach_the_page(bare_folder):
    with scripted(bare_folder, ["\nplot\n{}", "\nSee."], tools=(edge.Tool.from_function(plot),)) as (url, _, engine):
        events = post(url, messages=QUESTION)
    (result,) = named(events, "tool_result")
    assert result["content"] == "a line\n[1 picture, shown to the user]"
    assert result["pictures"][0].startswith("data:image/png;base64,")
    assert "[1 picture, shown to the user]" in spelled(engine.requests[-1].prompt)
