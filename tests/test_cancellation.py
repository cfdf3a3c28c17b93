"""Cancelling from any thread: the wish itself, generators that another thread reads, chats, tools."""

import time
from contextlib import closing
from threading import Event, Thread

import pytest

from runtime.backends.echo import Echo
from runtime.cancellation import Cancellable, Cancellation
from runtime.chat import Chat
from runtime.events import Finish, Text, ToolCall, ToolResult
from runtime.model import Model

CALL = 'wait\n{"text": "a"}'


def test_callbacks_are_called_once_and_only_within_their_context():
    called = []
    cancellation = Cancellation()
    with cancellation.on_cancel(lambda: called.append("before")):
        pass
    with cancellation.on_cancel(lambda: called.append("within")):
        cancellation.cancel()
        cancellation.cancel()
    with cancellation.on_cancel(lambda: called.append("at once")):
        assert called == ["within", "at once"]
    assert cancellation.cancelled


def test_closing_what_another_thread_reads_cancels_it():
    reading, cancellation = Event(), Cancellation()

    def events():
        reading.set()
        while not cancellation.cancelled:
            time.sleep(0.01)
        yield "cancelled"

    generator = Cancellable(events(), cancellation)
    read = []
    thread = Thread(target=lambda: read.extend(generator))
    thread.start()
    reading.wait(10)
    generator.close()
    thread.join(10)
    assert read == ["cancelled"]
    generator.close()
    assert list(generator) == []


@pytest.fixture(scope="module")
def model(demo_folder):
    with Model(demo_folder, device="CPU") as loaded:
        yield loaded


@pytest.mark.parametrize("by", ["chat", "generator", "closing"])
def test_a_chat_is_cancelled_while_another_thread_reads(model, by):
    chat = Chat(model)
    events, first = [], Event()
    stream = chat.stream("Who are you? " + "1 2 3 " * 200)

    def read():
        for event in stream:
            events.append(event)
            first.set()

    thread = Thread(target=read)
    thread.start()
    first.wait(20)
    {"chat": chat.cancel, "generator": stream.cancel, "closing": stream.close}[by]()
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(events[-1], Finish)
    assert events[-1].reason == "cancelled"
    said = "".join(event.text for event in events if isinstance(event, Text))
    assert [message.role for message in chat.history] == (["user", "assistant"] if said else [])
    assert not said or chat.history[-1].content == said
    assert chat.send("Who are you?").finish_reason == "stop"


def test_a_reply_that_was_cancelled_before_a_word_leaves_no_trace(model):
    chat = Chat(model)
    stream = chat.stream("Who are you?")
    chat.cancel()
    assert [event.reason for event in stream] == ["cancelled"]
    assert chat.history == ()
    assert chat.send("Who are you?").text


def test_cancelling_between_two_tools_answers_every_call(bare_folder):
    calls = "<|assistant|>".join([CALL, CALL])

    def wait(text: str) -> str:
        """Waits."""
        chat.cancel()
        return text

    with closing(Chat(Model(bare_folder, backend=Echo([calls, "Done."])), tools=[wait])) as chat:
        events = list(chat.stream("?"))
        assert [type(event) for event in events if isinstance(event, ToolCall | ToolResult)].count(ToolResult) == 1
        assert isinstance(events[-1], Finish)
        assert events[-1].reason == "cancelled"
        called = [call.id for message in chat.history for call in message.tool_calls]
        assert len(called) == 2
        assert [message.tool_call_id for message in chat.history if message.role == "tool"] == called


def test_while_a_prompt_is_read_empty_texts_let_the_reader_close(demo_folder):
    with Chat(demo_folder) as chat:
        with closing(chat.stream("word " * 900)) as events:
            assert next(events) == Text("")
        events = list(chat.stream("Who are you?"))
    assert "".join(event.text for event in events if isinstance(event, Text)) == chat.history[-1].content
