"""Exact tool calls: in how many dialogues a model makes the call that is expected, to the letter of its arguments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime import strict_json
from runtime.chat import Reply
from runtime.errors import RequestError
from runtime.messages import Message
from runtime.model import Model
from runtime.sampling import Sampling

from .corpus import parse_tools, read_json_lines

Calls = list[tuple[str, object]]  # a tool's name, and its arguments as JSON
Scores = Mapping[str, tuple[int, int]]  # right replies, of how many, by what is counted
_LINE = 'a line is {"messages": […], "tools": […], "expected": {"name": …, "arguments": {…}}}'
_MAX_NEW_TOKENS = 256  # tokens of a reply


@dataclass(frozen=True, slots=True)
class ToolCallTask:
    """A dialogue up to the reply in which the model should make the `expected` calls, or none."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...]
    expected: Calls


def read_tasks(path: Path) -> list[ToolCallTask]:
    """Tasks, one JSON object a line: OpenAI's `messages` and `tools`, and `expected`, a call or a list of calls.

    Raises RequestError for a file that cannot be read, or a line that is no task.
    """
    return [_task(f"{path.name}:{number}", data) for number, data in read_json_lines(path)]


def score(model: Model, tasks: Sequence[ToolCallTask]) -> Scores:
    """Greedy replies. A call is exact when its tool and its arguments are those expected, whatever their spelling as
    JSON; a reply is right when all of its calls are, and there are no others."""
    right = named = calling = 0
    for task in tasks:
        reply = Reply.of(model.reply(task.messages, task.tools, Sampling(max_new_tokens=_MAX_NEW_TOKENS)))
        made: Calls = [(call.name, parse_arguments(call.arguments)) for call in reply.tool_calls]
        right += made == task.expected
        if task.expected:
            calling += 1
            named += [name for name, _ in made] == [name for name, _ in task.expected]
    scores = {"exact": (right, len(tasks))}
    return scores | ({"right tool": (named, calling)} if calling else {})


def held_out(model: Model, count: int = 100) -> Scores:
    """The embedded checkpoint's own: dialogues with tools and values that its training never sees."""
    from benchmarks.demo_checkpoint import COLUMNS, measure

    from ..demo.training.dialogues import held_out as dialogues

    return {COLUMNS[kind]: score for kind, score in measure(model, dialogues(count=count)).items()}


def parse_arguments(arguments: str) -> object:
    """A call's arguments as JSON, or as they are where they are none."""
    try:
        return strict_json.parse(arguments)
    except ValueError:
        return arguments


def _task(name: str, data: Mapping[str, Any]) -> ToolCallTask:
    messages, expected = data.get("messages"), data.get("expected")
    if not isinstance(messages, list) or not messages or "expected" not in data:
        raise RequestError(f"{name} lacks messages or what is expected", hint=_LINE)
    calls = expected if isinstance(expected, list) else [] if expected is None else [expected]
    return ToolCallTask(
        tuple(map(Message.from_json, messages)),
        parse_tools(name, data.get("tools")),
        [call for item in calls for call in _call(name, item)],
    )


def _call(name: str, item: object) -> Iterator[tuple[str, object]]:
    call = item.get("function", item) if isinstance(item, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise RequestError(f"{name} expects a call without a name", hint=_LINE)
    arguments = call.get("arguments", {})
    yield call["name"], parse_arguments(arguments) if isinstance(arguments, str) else arguments
