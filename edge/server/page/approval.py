"""Calls of the page that a person approves: the reply ends at them, and another request brings the decisions."""

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import replace

from runtime.cancellation import Cancellation
from runtime.chat import Chat
from runtime.errors import RequestError
from runtime.events import Event, Finish, ToolCall
from runtime.messages import Message
from runtime.tool_call import failed, run_call
from runtime.tool_run import ToolWorker
from runtime.tools import Tool
from runtime.turn import DECLINED, describe_pictures, result_message


def select(tools: Mapping[str, Tool], names: Iterable[str] | None) -> dict[str, Tool]:
    """Return the tools that the page has switched on; None is all of them. Raises RequestError for an unknown name."""
    if names is None:
        return dict(tools)
    wanted = list(names)
    if unknown := [name for name in wanted if name not in tools]:
        raise RequestError(f"there is no tool {unknown[0]}", hint=f"there are {', '.join(tools) or 'none'}")
    return {name: tool for name, tool in tools.items() if name in wanted}


def hold(tools: Mapping[str, Tool], approved: Collection[str]) -> list[Tool]:
    """Return the tools for a chat: those that a person approves end its reply, unless they are `approved`."""
    return [
        replace(tool, run=None, loop=None) if tool.approval and tool.name not in approved else tool
        for tool in tools.values()
    ]


def waiting_calls(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Return the calls at the end of the messages that have no result."""
    answered = set()
    for message in reversed(messages):
        if message.role != "tool":
            return tuple(call for call in message.tool_calls if call.id not in answered)
        answered.add(message.tool_call_id)
    return ()


def require_decisions(calls: Sequence[ToolCall], decisions: Mapping[str, bool]) -> None:
    """Raise RequestError unless there is a decision for each of the calls, and for no other."""
    if not calls:
        raise RequestError("no call waits for a decision", hint="leave out decisions, and end with a user's message")
    ids = {call.id for call in calls}
    if missing := sorted(ids - decisions.keys()):
        raise RequestError(f"the call {missing[0]} waits for a decision", hint="send true or false for each call")
    if unknown := sorted(decisions.keys() - ids):
        raise RequestError(f"no call {unknown[0]} waits for a decision", hint="send the ids of the approval event")


def resume(
    chat: Chat,
    tools: Mapping[str, Tool],
    calls: Sequence[ToolCall],
    decisions: Mapping[str, bool],
    cancellation: Cancellation,
) -> Generator[Event, None, None]:
    """Run the calls that were approved, and yield their results and the reply to them. The time of a tool starts here;
    a tool that is not among `tools` does not run."""
    messages = []
    worker = ToolWorker()
    try:
        for call in calls:
            if decisions[call.id]:
                run = run_call(
                    tools,
                    call,
                    timeout=chat.tool_timeout,
                    max_characters=chat.max_tool_characters,
                    cancellation=cancellation,
                    worker=worker,
                )
                result = describe_pictures(chat.model, run)
            else:
                result = failed(call, DECLINED)
            messages.append(result_message(chat.model, result))
            yield result
    finally:
        worker.close()
    if cancellation.cancelled:
        yield Finish("cancelled")
        return
    events = chat.stream(messages)
    with cancellation.on_cancel(events.cancel):
        yield from events
