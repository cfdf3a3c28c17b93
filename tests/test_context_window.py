"""Chats that outgrow the context: whole turns are left out, what remains fits, and the cuts stay where they are."""

import json
import random
import sys
from itertools import pairwise

import pytest

import edge
from runtime.backends.echo import Echo
from runtime.context_window import ContextWindow
from runtime.documents.attachment import attach
from runtime.documents.document import Document, Section
from runtime.errors import PromptTooLong, RequestError
from runtime.events import DroppedMessages, ToolCall
from runtime.messages import Message

SYSTEM = Message("system", "You are the guide of a museum.")
DOCUMENT = attach("What?", [Document("a.md", (Section("", "A crossing costs 12."),))], room=1000, count_tokens=len)


def count(messages):
    """A character is a token, and a message has six of markup."""
    return sum(6 + len(one.content) + sum(len(c.name + c.arguments) for c in one.tool_calls) for one in messages)


def window(context=1000, reply=100, **settings):
    return ContextWindow(context, reply, count, len, **settings)


def conversation(turns, *, seed=0, calls=False):
    """Turns of random lengths, some with a call and its result."""
    draw = random.Random(seed)
    yield SYSTEM
    for number in range(turns):
        yield Message("user", f"{number} " + "q" * draw.randrange(5, 60))
        if calls and draw.random() < 0.5:
            call = ToolCall("find", '{"x": 1}', f"call_{number}")
            yield Message("assistant", tool_calls=(call,))
            yield Message("tool", "r" * draw.randrange(20), tool_call_id=call.id, name="find")
        yield Message("assistant", "a" * draw.randrange(5, 60))


@pytest.mark.parametrize("calls", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_a_growing_chat(seed, calls):
    messages = list(conversation(120, seed=seed, calls=calls))
    cuts, last = [], 0
    for end in range(2, len(messages) + 1):
        if messages[end - 1].role == "assistant":
            continue
        excerpt = window().fit(messages[:end])
        kept, dropped = excerpt.messages, excerpt.dropped
        assert count(kept) <= 900
        assert kept == (SYSTEM, *messages[1 + dropped : end])
        assert kept[1].role == "user"
        assert dropped >= last
        if dropped > last:
            cuts.append(end)
            assert count(kept) <= 600
        last = dropped
    assert len(cuts) > 5
    assert min(b - a for a, b in pairwise(cuts)) > 5  # messages


def test_a_chat_that_fits_is_whole():
    messages = list(conversation(5))
    assert window().fit(messages).messages == tuple(messages)


def test_a_last_message_that_is_too_long_alone():
    excerpt = window().fit([*conversation(5), Message("user", "q" * 2000)])
    assert [one.role for one in excerpt.messages] == ["system", "user"]
    assert excerpt.dropped == 10


def test_the_rounds_of_the_last_turn_go_last():
    rounds = []
    for number in range(20):
        call = ToolCall("find", "{}", f"call_{number}")
        rounds += [Message("assistant", tool_calls=(call,)), Message("tool", "r" * 80, tool_call_id=call.id)]
    question = Message("user", "Find everything.")
    excerpt = window().fit([*conversation(3), question, *rounds])
    assert count(excerpt.messages) <= 900
    assert excerpt.messages[:2] == (SYSTEM, question)
    assert excerpt.messages[2].tool_calls
    assert excerpt.messages[2:] == tuple(rounds[-len(excerpt.messages) + 2 :])


def test_system_messages_stay_wherever_they_are():
    late = Message("system", "Answer briefly.")
    messages = [*conversation(10), late, *list(conversation(40, seed=1))[1:], Message("user", "Well?")]
    excerpt = window().fit(messages)
    assert excerpt.messages[:2] == (SYSTEM, late)
    assert excerpt.dropped


@pytest.mark.parametrize("keep", [False, True])
def test_attachments_are_kept_by_choice(keep):
    shown = Message("user", DOCUMENT.content)
    answer = Message("assistant", "It costs 12.")
    messages = [SYSTEM, shown, answer, *list(conversation(40))[1:], Message("user", "Well?")]
    kept = window(keep_attachments=keep).fit(messages).messages
    assert (shown in kept) == (answer in kept) == keep
    assert count(kept) <= 900


def test_a_chat_refuses_unless_told_otherwise(bare_folder):
    with edge.Chat(edge.Model(bare_folder, backend=Echo(["\nYes."], max_prompt_tokens=200))) as chat:
        chat.send("Is it open today, tomorrow, and on the day after tomorrow?")
        with pytest.raises(PromptTooLong):
            chat.send("And is it open on all the days after these?" * 3)


def test_an_unknown_overflow(bare_folder):
    with pytest.raises(RequestError, match="unknown overflow 'cut'") as caught:
        edge.Chat(edge.Model(bare_folder, backend=Echo()), overflow="cut")
    assert caught.value.hint == "choose one of refuse, drop"


@pytest.mark.slow
def test_two_hundred_turns_on_the_engine(demo_folder):
    """No reply is refused; the system message and the last one are always read; the prefix cache stays of use."""
    with edge.Chat(demo_folder, system="You are a guide.", overflow="drop", max_new_tokens=12, temperature=0) as chat:
        cuts, dropped, before = [], 0, 0
        prefilled, new = 0, 0
        for turn in range(200):
            reply = chat.send(f"Question {turn}: what is {turn} times 7? " + "The museum opens at nine. " * 6)
            usage = reply.usage
            if reply.dropped_messages > dropped:
                cuts.append(turn)
                dropped = reply.dropped_messages
            elif turn:
                prefilled += usage.prompt_tokens - usage.cached_tokens
                new += usage.prompt_tokens - before
            before = usage.prompt_tokens
        assert len(chat.history) == 401
        assert chat.model.backend.max_prompt_tokens < 2048
        assert len(cuts) > 3
        assert min(b - a for a, b in pairwise(cuts)) >= 8
        assert prefilled / new <= 1.1


def test_the_event_precedes_the_reply(bare_folder):
    engine = Echo(["\nYes."] * 40, max_prompt_tokens=500)
    with edge.Chat(edge.Model(bare_folder, backend=engine), system="Be brief.", overflow="drop") as chat:
        for number in range(20):
            events = list(chat.stream(f"{number}: is it open today, tomorrow and on the day after tomorrow?"))
        assert isinstance(events[0], DroppedMessages)
        assert events[0].count > 30 - 2 * 8
        prompt = "".join(engine.requests[-1].prompt)
        assert "Be brief." in prompt
        assert "19: is it open" in prompt
        assert "0: is it open today" not in prompt.replace("10: is", "")


def test_a_reply_says_how_full_the_context_is(bare_folder):
    engine = Echo(["\nYes."] * 9, max_prompt_tokens=300)
    with edge.Chat(edge.Model(bare_folder, backend=engine)) as chat:
        parts = [chat.send("Is it open today, or tomorrow?").context_used for _ in range(4)]
        used = chat.model.backend.count_tokens(chat.model.template.render(chat.history, ()))
    assert parts == sorted(parts)
    assert parts[0] < 0.5 < parts[-1] < 1
    assert parts[-1] == pytest.approx(used / 300, abs=0.06)


class Small(Echo):
    """An engine whose context has 600 tokens."""

    def __init__(self, replies):
        super().__init__(replies, max_prompt_tokens=600)


def long_chat(turns=12):
    yield {"role": "system", "content": "Be brief."}
    for number in range(turns):
        yield {"role": "user", "content": f"Question {number}?"}
        yield {"role": "assistant", "content": "a" * 80}
    yield {"role": "user", "content": "Last?"}


@pytest.mark.parametrize(
    ("path", "refuse", "drop"),
    [
        ("/v1/chat/completions", {}, {"truncation": "auto"}),
        ("/v1/chat/completions", {"truncation": "disabled"}, {"truncation": "auto", "max_tokens": 50}),
        ("/api/chat", {}, {"truncate": True, "stream": False}),
        ("/api/chat", {"truncate": False}, {"truncate": True, "stream": False, "options": {"num_predict": 50}}),
    ],
)
def test_a_request_says_whether_its_oldest_turns_are_left_out(bare_folder, path, refuse, drop):
    pytest.importorskip("starlette")
    httpx2 = pytest.importorskip("httpx2")
    from .serving import scripted

    with scripted(bare_folder, ["\nYes."] * 2, engine=Small) as (url, dispatcher, engine):
        name = {"model": next(iter(dispatcher.pool.entries))} if path == "/api/chat" else {}
        messages = {"messages": list(long_chat())}
        refused = httpx2.post(url + path, json=messages | refuse | name)
        assert refused.status_code == 400
        assert "context" in refused.text
        answer = httpx2.post(url + path, json=messages | drop | name)
        assert answer.status_code == 200, answer.text
        assert "Yes." in answer.text
        prompt = "".join(engine.requests[-1].prompt)
        assert "Be brief." in prompt
        assert prompt.endswith("Last?<|assistant|>")
        assert "Question 0?" not in prompt
        assert "Question 11?" in prompt


def test_the_page_is_told(bare_folder):
    pytest.importorskip("starlette")
    httpx2 = pytest.importorskip("httpx2")
    from .serving import scripted

    with scripted(bare_folder, ["\nYes."], engine=Small) as (url, *_):
        text = httpx2.post(f"{url}/chat", json={"messages": list(long_chat())}).text
    assert 'event: dropped\ndata: {"dropped":' in text.replace(", ", ",")
    assert "Yes." in text
    assert 0 < json.loads(text.rpartition("data: ")[2])["context_used"] < 0.85


@pytest.mark.slow
def test_the_page_warns_before_the_context_ends(browser, bare_folder):
    from .serving import scripted

    with scripted(bare_folder, ["\nYes.", "\n" + "y" * 480], engine=Small) as (url, *_):
        browser.open(url)
        browser.ask("Open?")
        assert browser.texts(".full") == []
        browser.ask("Why?")
        assert "of what the model can read" in browser.text(".full")


@pytest.mark.slow
def test_the_first_visitor_of_a_kiosk_does_not_wait_for_its_system_prompt(demo_folder, tmp_path):
    """The server reads it before it is ready: the visitor's prompt is read from where it ends."""
    httpx2 = pytest.importorskip("httpx2")
    from .serving import serving

    system = "You are the guide of the city museum. " + "It is open from nine to five, but on Mondays. " * 12
    (tmp_path / "kiosk.toml").write_text(f'system = "{system}"\n', encoding="utf-8")
    command = [sys.executable, "-m", "edge", "serve", str(demo_folder.path), "--kiosk", str(tmp_path / "kiosk.toml")]
    with serving(command, tmp_path / "log.txt") as url:
        question = {"messages": [{"role": "user", "content": "Who are you?"}]}
        text = httpx2.post(f"{url}/chat", json=question, timeout=60).text
    usage = json.loads(text.rpartition("data: ")[2])["usage"]
    assert usage["cached_tokens"] > 0.8 * usage["prompt_tokens"] > 80
