"""AsyncChat on a real engine, and on scripted replies where the engine is not what is tested."""

import asyncio
import contextvars
import inspect
import threading
import time

import pytest

import edge
from edge.testing import Echo, echo_model
from runtime.async_chat import ChatSettings, ReplySettings

ADD = 'add\n{"a": 1, "b": 2}'
LONG = "\n" + "abc " * 20_000
who = contextvars.ContextVar("who", default="nobody")


def scripted(*replies: str, **settings) -> edge.AsyncChat:
    return edge.AsyncChat(echo_model(Echo(replies)), **settings)


def test_it_takes_what_chat_takes():
    own = set(inspect.signature(edge.Chat).parameters) - {"model", "approve", "settings"}
    assert set(ChatSettings.__annotations__) == own | set(edge.SamplingSettings.__annotations__)
    own = set(inspect.signature(edge.Chat.stream).parameters) - {"self", "message", "settings"}
    assert set(ReplySettings.__annotations__) == own | set(edge.SamplingSettings.__annotations__)
    blocking = {name for name in vars(edge.Chat) if not name.startswith("_")}
    assert blocking <= set(dir(edge.AsyncChat))


def test_tools_and_approval_run_in_the_event_loop():
    threads = []

    async def add(a: int, b: int) -> int:
        """Adds."""
        threads.append(threading.get_ident())
        await asyncio.sleep(0.01)
        return a + b

    def add_in_thread(a: int, b: int) -> str:
        """Adds."""
        threads.append(threading.get_ident())
        return f"{a + b} for {who.get()}"

    async def approve(call: edge.ToolCall) -> bool:
        threads.append(threading.get_ident())
        await asyncio.sleep(0)
        return call.name == "add" or not call.arguments.endswith("9}")

    def approve_at_once(call: edge.ToolCall) -> bool:
        threads.append(threading.get_ident())
        return True

    async def main() -> None:
        who.set("me")
        chat = scripted(ADD, "\n3.", tools=[add], approve=approve)
        reply = await chat.send("1 + 2?")
        assert (reply.text, reply.tool_results[0].content) == ("3.", "3")
        assert set(threads) == {threading.get_ident()}
        threads.clear()
        call = 'add_in_thread\n{"a": 1, "b": 2}'
        chat = scripted(call, call.replace("2", "9"), "\n3.", tools=[add_in_thread], approve=approve)
        results = (await chat.send("1 + 2?")).tool_results
        assert [result.content for result in results] == ["3 for me", "Error: the user declined this call"]
        assert threads[1] != threading.get_ident()
        chat = scripted(ADD, "\n3.", tools=[add], approve=approve_at_once)
        assert (await chat.send("?")).text == "3."

    asyncio.run(main())


def test_cancelling_while_approval_is_pending():
    withdrawn = []

    async def approve(call: edge.ToolCall) -> bool:
        try:
            await asyncio.sleep(60)
        finally:
            withdrawn.append(call.name)
        return True

    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    async def main() -> None:
        chat = scripted(ADD, "\nHello.", tools=[add], approve=approve)
        sending = asyncio.create_task(chat.send("1 + 2?"))
        await asyncio.sleep(0.2)
        await chat.cancel()
        reply = await sending
        assert (reply.finish_reason, reply.tool_results) == ("cancelled", ())
        (call,) = chat.history[-2].tool_calls
        assert chat.history[-1] == edge.Message("tool", "cancelled", tool_call_id=call.id, name="add")
        assert (await chat.send("Hi")).text == "Hello."
        assert withdrawn == ["add"]

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_chat_without_a_loop_rejects_async_tools():
    async def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    with pytest.raises(edge.ToolError, match="add is async") as caught:
        edge.Chat(echo_model(), tools=[add])
    assert "AsyncChat" in caught.value.hint
    with pytest.raises(edge.ToolError, match="add is async"):
        edge.Chat(echo_model()).send("Hi", tools=[add])


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_an_async_tool_is_cancelled_with_its_call(how):
    ended = []

    async def hangs() -> str:
        """Hangs."""
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(how)
        return "never"

    async def main() -> None:
        chat = scripted("hangs\n{}", "\nSorry.", tools=[hangs], tool_timeout=0.2 if how == "timeout" else None)
        sending = asyncio.create_task(chat.send("?"))
        await asyncio.sleep(0.1)
        if how == "cancel":
            await chat.cancel()
            assert (await sending).finish_reason == "cancelled"
        else:
            reply = await sending
            assert "did not finish within 0.2 seconds" in reply.tool_results[0].content
        await asyncio.sleep(0.05)
        assert ended == [how]

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.slow
def test_cancelling_the_task_stops_the_engine_and_keeps_the_text(demo_folder):
    async def main() -> None:
        with edge.Model(demo_folder) as model:
            chat = edge.AsyncChat(model)
            sending = asyncio.create_task(
                chat.send("Count to a hundred.", max_tokens=4000, answer=edge.Regex("([12] ){400}"))
            )
            await asyncio.sleep(0.5)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            kept = chat.history
            await asyncio.sleep(0.2)
            assert chat.history == kept  # nothing writes on
            reply = await asyncio.wait_for(chat.send("Who are you?"), 60)
            assert reply.finish_reason == "stop"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(chat.send("More", answer=edge.Regex("([12] ){400}"), max_tokens=4000), 0.3)
            await chat.close()

    asyncio.run(main())


def test_leaving_a_stream_stops_it_and_the_next_reply_waits_for_that():
    async def main() -> None:
        chat = scripted(LONG, "\nHello.")
        async for event in chat.stream("?"):
            if isinstance(event, edge.Text) and event.text:
                break
        assert (await chat.send("Hi")).text == "Hello."
        assert chat.history[1].content.startswith("a")
        assert len(chat.history[1].content) < len(LONG)

    asyncio.run(main())


def test_two_replies_at_once_are_refused_and_cancel_waits_for_the_end():
    async def main() -> None:
        async def waits() -> str:
            """Waits."""
            await asyncio.sleep(60)
            return "never"

        chat = scripted("waits\n{}", "\nHello.", tools=[waits])
        sending = asyncio.create_task(chat.send("?"))
        await asyncio.sleep(0.2)
        with pytest.raises(edge.RequestError, match="still replying"):
            await chat.send("!")
        with pytest.raises(edge.RequestError, match="still replying"):
            chat.history = []
        await chat.cancel()
        chat.history = []
        assert (await sending).finish_reason == "cancelled"
        assert (await chat.send("Hi")).text == "Hello."

    asyncio.run(main())


def test_errors_arrive_in_the_task():
    async def main() -> None:
        chat = edge.AsyncChat(echo_model(Echo(max_prompt_tokens=3)))
        with pytest.raises(edge.PromptTooLong):
            await chat.send("Hi")
        assert chat.history == ()

        def approve(call: edge.ToolCall) -> bool:
            raise ZeroDivisionError

        chat = scripted(ADD, tools=[lambda_free], approve=approve)
        with pytest.raises(ZeroDivisionError):
            await chat.send("Hi")

    def lambda_free(a: int, b: int) -> int:
        """Adds."""
        return a + b

    lambda_free.__name__ = "add"
    asyncio.run(main())


def test_the_loop_goes_on_while_the_model_loads_and_replies(demo_folder, tmp_path):
    gaps = []

    async def tick() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.01)
            gaps.append(time.perf_counter() - start)

    async def main() -> None:
        ticking = asyncio.create_task(tick())
        async with edge.AsyncChat(demo_folder, history=[{"role": "user", "content": "Hi"}]) as chat:
            assert await chat.send("Who are you?")
            await chat.save(tmp_path / "chat.json")
            await chat.reset()
            assert chat.history == ()
            await chat.load(tmp_path / "chat.json")
            assert len(chat.history) == 3
        ticking.cancel()

    asyncio.run(main())
    assert len(gaps) > 5


def test_the_history_before_the_model_is_loaded(demo_folder):
    chat = edge.AsyncChat(demo_folder, system="Be brief.")
    assert [message.role for message in chat.history] == ["system"]
    chat.history = [{"role": "user", "content": "Hi"}]
    assert [message.content for message in chat.history] == ["Be brief.", "Hi"]


def test_a_load_that_nobody_waits_for_is_closed_again(demo_folder, monkeypatch):
    closed = threading.Event()

    class Watched(edge.Model):
        def close(self) -> None:
            super().close()
            closed.set()

    monkeypatch.setattr("runtime.chat.Model", Watched)

    async def main() -> None:
        chat = edge.AsyncChat(demo_folder)
        opening = asyncio.create_task(chat.__aenter__())
        await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await chat.close()

    asyncio.run(main())
    assert closed.wait(60)


def test_a_chat_lives_on_in_another_loop():
    async def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    chat = scripted(ADD, "\n3.", ADD, "\nStill 3.", tools=[add])
    assert asyncio.run(chat.send("?")).text == "3."
    assert asyncio.run(chat.send("?")).text == "Still 3."
