"""Samples of text from a JSONL file, for the calibration of recipes and the evaluation of model folders.

A line is one of

    {"text": "…"}                        plain text: a special token spelled in it stays text
    {"messages": […], "tools": […]}      a chat in OpenAI's format; `tools` is optional
    {"rendered": "…"}                    a prompt in the model's own format, its special tokens spelled out
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runtime import strict_json
from runtime.errors import RequestError
from runtime.messages import Message
from runtime.system.files import expand_user
from runtime.text import one_line

LINE_FORMAT = 'each line needs {"text": "…"} or {"messages": […], "tools": […]}, the latter as in OpenAI\'s chat API'


@dataclass(frozen=True, slots=True)
class Sample:
    """A text, a chat with the tools it had (JSON objects with a name), or a rendered prompt.

    `name` is its file and line, for errors and reports.
    """

    name: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    rendered: str = ""


def read_samples(path: str | os.PathLike[str]) -> tuple[Sample, ...]:
    """Read the samples of a file. Raises RequestError, naming the line that is wrong."""
    return tuple(parse_sample(name, data) for name, data in read_json_lines(path))


def read_json_lines(
    path: str | os.PathLike[str], line_format: str = LINE_FORMAT
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each JSON object of a JSONL file, with its place: `texts.jsonl:3`.

    Raises RequestError for a file that cannot be read or is empty, and for a line that is not a JSON object; its hint
    is the `line_format`.
    """
    file = expand_user(path)
    try:
        lines = file.read_text(encoding="utf-8").split("\n")  # JSON strings may contain other line separators
    except OSError as exc:
        raise RequestError(
            f"{str(path)!r} cannot be read: {(exc.strerror or str(exc)).lower()}", hint=line_format
        ) from exc
    except UnicodeDecodeError as exc:
        raise RequestError(f"{str(path)!r} is not UTF-8 text", hint=line_format) from exc
    empty = True
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        empty, place = False, f"{file.name}:{number}"
        try:
            data = strict_json.parse(line)
        except ValueError as exc:
            raise RequestError(f"{place}: not valid JSON: {one_line(exc)}", hint=line_format) from exc
        if not isinstance(data, Mapping):
            raise RequestError(f"{place}: not a JSON object", hint=line_format)
        yield place, data
    if empty:
        raise RequestError(f"{str(path)!r} contains no samples", hint=line_format)


def parse_sample(name: str, data: Mapping[str, Any]) -> Sample:
    """Return the sample in a line's JSON object. Raises RequestError, beginning with `name`."""
    for key in ("text", "rendered"):
        if key in data:
            if not isinstance(data[key], str) or not data[key].strip():
                raise RequestError(f"{name}: {key!r} must be a string that is not empty", hint=LINE_FORMAT)
            return Sample(name, **{key: data[key]})
    if "messages" not in data:
        raise RequestError(f'{name}: needs "text" or "messages"', hint=LINE_FORMAT)
    messages = parse_messages(name, data["messages"])
    if not any(message.role in ("user", "assistant") and message.content for message in messages):
        raise RequestError(f"{name}: no user or assistant message has any text", hint=LINE_FORMAT)
    return Sample(name, messages=messages, tools=parse_tools(name, data.get("tools")))


def parse_messages(name: str, messages: object) -> tuple[Message, ...]:
    """Return OpenAI's list of messages. Raises RequestError, beginning with `name`."""
    if not isinstance(messages, list) or not messages:
        raise RequestError(f'{name}: "messages" must be a list with at least one message', hint=LINE_FORMAT)
    try:
        return tuple(map(Message.from_json, messages))
    except RequestError as exc:
        raise RequestError(f"{name}: {exc}", hint=exc.hint) from exc


def parse_tools(name: str, tools: object) -> tuple[Mapping[str, Any], ...]:
    """Return OpenAI's list of tools as their functions, with all of their fields in the order in which a template will
    print them. None is no tools.

    Raises RequestError, beginning with `name`.
    """
    if tools is not None and not isinstance(tools, list):
        raise RequestError(f"{name}: tools must be a list, not {type(tools).__name__}", hint=LINE_FORMAT)
    found = []
    for tool in tools or ():
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise RequestError(
                f"{name}: a tool has no name", hint='a tool looks like {"function": {"name": "…", "parameters": {…}}}'
            )
        found.append({key: value for key, value in function.items() if value is not None})
    return tuple(found)
