"""The chat's loop on scripted replies; `test_demo` runs it on a model that really answers."""

import os
from dataclasses import replace

import pytest

from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.errors import EdgeError, PromptTooLong, RequestError
from runtime.events import Finish, ToolCall, ToolResult
from runtime.messages import Message
from runtime.model import Model
from runtime.reply.reply import Reply
from runtime.sampling import Sampling


def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


def chat_of(folder, *replies, **settings):
    return Chat(Model(folder, backend=Echo(replies)), **settings)


def test_an_answer(bare_folder):
    chat = chat_of(bare_folder, "\nHello.", system="Be kind.")
    reply = chat.send("Hi")
    assert (reply.text, reply.finish_reason, reply.tool_calls) == ("Hello.", "stop", ())
    assert chat.history == (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello."))
    assert reply.usage.completion_tokens == len("\nHello.")


def test_a_reply_names_the_stop_text_that_it_met(bare_folder):
    chat = chat_of(bare_folder, "\nOne, two.", "\nOne.")
    assert [chat.send("Hi", stop=[" two", ","]).stop_text for _ in range(2)] == [",", ""]


def test_a_tool_is_called_and_its_result_goes_back(bare_folder):
    chat = chat_of(bare_folder, 'add\n{"a": 1, "b": 2}', "\nIt is 3.")
    events = list(chat.stream("1 + 2?", tools=[add]))
    call = ToolCall("add", '{"a": 1, "b": 2}', chat.history[1].tool_calls[0].id)
    assert [event for event in events if isinstance(event, ToolCall | ToolResult)] == [
        call,
        ToolResult(call.id, "add", "3"),
    ]
    assert Reply.from_events(events).text == "It is 3."
    assert isinstance(events[-1], Finish)
    assert chat.history[2] == Message("tool", "3", tool_call_id=call.id, name="add")
    assert "".join(chat.model.backend.requests[1].prompt).endswith(
        '<|assistant|>add \n{"a": 1, "b": 2}<|observation|>\n3<|assistant|>'
    )


def test_two_calls_in_one_reply_both_run_and_no_two_ids_are_equal(bare_folder):
    twice = 'add\n{"a": 1, "b": 2}<|assistant|>add\n{"a": 3, "b": 4}'
    chat = chat_of(bare_folder, twice, "\n3 and 7.", twice, "\nAgain.", tools=[add])
    assert [result.content for result in chat.send("?").tool_results] == ["3", "7"]
    ids = [call.id for message in (*chat.history, chat.send("?")) for call in message.tool_calls]
    assert len(set(ids)) == 4


def test_errors_of_a_tool_are_for_the_model(bare_folder):
    reply = chat_of(bare_folder, 'add\n{"a": "x", "b": 2}', "\nSorry.").send("?", tools=[add])
    assert reply.tool_results[0].error
    assert reply.text == "Sorry."


def test_the_loop_ends_at_a_number_of_rounds(bare_folder):
    reply = chat_of(bare_folder, *['add\n{"a": 1, "b": 2}'] * 9, max_rounds=3).send("?", tools=[add])
    assert (reply.finish_reason, len(reply.tool_results)) == ("rounds", 3)


def test_a_call_cut_by_the_token_limit_is_shown_and_not_run(bare_folder):
    chat = chat_of(bare_folder, 'add\n{"a": 1, "b": 2}', sampling=Sampling(max_new_tokens=12))
    reply = chat.send("?", tools=[add])
    assert reply.finish_reason == "length"
    assert [replace(call, id="") for call in reply.tool_calls] == [ToolCall("add", '{"a": 1,', complete=False)]
    assert reply.tool_results == ()


def test_without_tools_a_call_is_text(bare_folder):
    assert chat_of(bare_folder, "add\n{}").send("?").text == "add\n{}"


def test_closing_keeps_what_was_said(bare_folder):
    chat = chat_of(bare_folder, "\nOne two three", "\nFour")
    stream = chat.stream("Count")
    assert [next(stream).text for _ in range(3)] == ["O", "n", "e"]
    with pytest.raises(RequestError, match="still replying"):
        chat.send("Now")
    stream.close()
    assert chat.history == (Message("user", "Count"), Message("assistant", "One"))
    assert chat.send("Go on").text == "Four"


def test_a_prompt_that_does_not_fit_leaves_no_trace(bare_folder):
    chat = Chat(Model(bare_folder, backend=Echo(max_prompt_tokens=100)))
    with pytest.raises(PromptTooLong, match="at most 100 fit") as caught:
        chat.send("word " * 50)
    assert caught.value.prompt_tokens > 250
    assert chat.history == ()
    assert chat.send("word").text


def test_a_reset_keeps_the_system_message(bare_folder):
    chat = chat_of(bare_folder, system="Be kind.")
    chat.send("Hi")
    chat.reset()
    assert chat.history == (Message("system", "Be kind."),)


def test_a_chat_is_saved_and_taken_up(bare_folder, tmp_path):
    chat = chat_of(bare_folder, 'add\n{"a": 1, "b": 2}', "\n三 🎉", tools=[add], system="Be kind.")
    chat.send("1 + 2?")
    chat.save(tmp_path / "chat.json")
    other = chat_of(bare_folder, "\nYes.")
    other.load(tmp_path / "chat.json")
    assert other.history == chat.history
    assert [path.name for path in tmp_path.glob("*chat*")] == ["chat.json"]
    assert other.send("Sure?").text == "Yes."


def test_saving_writes_through_no_link(bare_folder, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("x")
    (tmp_path / "chat.json").symlink_to(precious)
    (tmp_path / f".chat.json.{os.getpid()}").symlink_to(precious)  # where it was written first, in older versions
    chat = chat_of(bare_folder, "\nYes.")
    chat.send("Sure?")
    chat.save(tmp_path / "chat.json")
    assert precious.read_text() == "x"
    assert "Sure?" in (tmp_path / "chat.json").read_text()
    (tmp_path / "null").symlink_to(os.devnull)
    with pytest.raises(RequestError, match="not a regular file"):
        chat.save(tmp_path / "null")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"messages": [{}]}',
        '{"messages": [{"role": "king"}]}',
        '{"messages": [{"role": "user", "content": 1}]}',
    ],
)
def test_what_is_no_saved_chat_changes_nothing(bare_folder, tmp_path, content):
    chat = chat_of(bare_folder, "\nHello.")
    chat.send("Hi")
    before = chat.history
    (tmp_path / "chat.json").write_text(content)
    for path in (tmp_path / "chat.json", tmp_path / "missing.json"):
        with pytest.raises(RequestError) as caught:
            chat.load(path)
        assert caught.value.hint
    assert chat.history == before


def test_saving_into_nowhere_is_one_line(bare_folder, tmp_path):
    with pytest.raises(RequestError, match="cannot be written"):
        chat_of(bare_folder).save(tmp_path / "no" / "chat.json")


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": -0.1},
        {"min_p": 1.1},
        {"top_k": -1},
        {"max_new_tokens": 0},
        {"repetition_penalty": 0},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(EdgeError) as caught:
        Sampling(**setting)
    assert caught.value.hint
