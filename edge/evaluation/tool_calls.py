"""Tool-call accuracy: the share of dialogues in which a model makes exactly the calls that are expected.

A line of a JSONL file is a task:

    {"messages": […], "tools": […], "expected": {"name": "…", "arguments": {…}}}

`messages` and `tools` are OpenAI's. `expected` is a call, a list of calls, or null where no tool fits. Two keys are
optional: `text`, which the reply's text must equal, and `kind`, a row of its own in the report.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.samples import parse_messages, parse_tools, read_json_lines
from runtime import strict_json
from runtime.errors import RequestError
from runtime.messages import Message
from runtime.model import Model
from runtime.reply.constraint import Constraint
from runtime.reply.reply import Reply
from runtime.sampling import Sampling

Calls = list[tuple[str, object]]  # each call's tool name, and its arguments as parsed JSON
Scores = Mapping[str, tuple[int, int]]  # by row: correct replies, and the tasks they are out of
EXACT, RIGHT_TOOL = "exact", "right tool"
_LINE_FORMAT = 'each line needs {"messages": […], "tools": […], "expected": {"name": …, "arguments": {…}}}'
_MAX_NEW_TOKENS = 256


@dataclass(frozen=True, slots=True)
class ToolCallTask:
    """A dialogue up to the reply in which the model should make the `expected` calls, or none.

    `text` is the text that the reply must have; None accepts any.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...]
    expected: Calls
    text: str | None = None
    kind: str = EXACT

    @property
    def counts_tool(self) -> bool:
        """Whether choosing the right tool counts as well: wherever calls are expected, except for several calls that
        have a row of their own."""
        return len(self.expected) == 1 or (self.kind == EXACT and bool(self.expected))


def read_tasks(path: Path) -> list[ToolCallTask]:
    """Read the tasks of a JSONL file. Raises RequestError, naming the line that is wrong."""
    return [parse_task(name, data) for name, data in read_json_lines(path, _LINE_FORMAT)]


def parse_task(name: str, data: Mapping[str, Any]) -> ToolCallTask:
    """Return the task in a line's JSON object. Raises RequestError, beginning with `name`."""
    for key in ("messages", "expected"):
        if key not in data:
            raise RequestError(f'{name}: "{key}" is missing', hint=_LINE_FORMAT)
    text, kind, expected = data.get("text"), data.get("kind", EXACT), data["expected"]
    if not isinstance(text, str | None) or not isinstance(kind, str):
        raise RequestError(f'{name}: "text" and "kind" must be strings', hint=_LINE_FORMAT)
    calls = expected if isinstance(expected, list) else [] if expected is None else [expected]
    return ToolCallTask(
        parse_messages(name, data["messages"]),
        parse_tools(name, data.get("tools")),
        [call for item in calls for call in _parse_call(name, item)],
        text,
        kind,
    )


def reply_to(model: Model, task: ToolCallTask, constraint: Constraint, max_new_tokens: int = _MAX_NEW_TOKENS) -> Reply:
    """Return the model's greedy reply."""
    sampling = Sampling(max_new_tokens=max_new_tokens)
    return Reply.from_events(model.reply(task.messages, task.tools, sampling, constraint))


def calls_of(reply: Reply) -> Calls:
    """Return the reply's calls in the form of `ToolCallTask.expected`."""
    return [(call.name, parse_arguments(call.arguments)) for call in reply.tool_calls]


def score(model: Model, tasks: Sequence[ToolCallTask], *, strict: bool = False) -> Scores:
    """Count the correct greedy replies by kind, and the replies that choose the right tool.

    A reply is correct when its calls are the expected ones, compared as JSON values, and its text is. `strict` enforces
    the tools' schemas while the model generates.
    """
    correct: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for task in tasks:
        reply = reply_to(model, task, Constraint.for_tools(task.tools, strict=strict))
        calls = calls_of(reply)
        total[task.kind] += 1
        correct[task.kind] += calls == task.expected and task.text in (None, reply.text.strip())
        if task.counts_tool:
            total[RIGHT_TOOL] += 1
            correct[RIGHT_TOOL] += [name for name, _ in calls] == [name for name, _ in task.expected]
    return {kind: (correct[kind], count) for kind, count in total.items()}


def parse_arguments(arguments: str) -> object:
    """Return a call's arguments as parsed JSON, or unchanged where they are not valid JSON."""
    try:
        return strict_json.parse(arguments)
    except ValueError:
        return arguments


def _parse_call(name: str, item: object) -> Iterator[tuple[str, object]]:
    call = item.get("function", item) if isinstance(item, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise RequestError(f"{name}: an expected call has no name", hint=_LINE_FORMAT)
    arguments = call.get("arguments", {})
    yield call["name"], parse_arguments(arguments) if isinstance(arguments, str) else arguments
