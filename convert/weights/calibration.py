"""Calibration texts for the data-aware recipes: built-in, or the user's, in the checkpoint's prompt format.

A file has a JSON object a line: {"text": …}, or a chat in OpenAI's layout, {"messages": […], "tools": […]}. The
built-in file was written for this purpose: English, Chinese, code and tool calls.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime import strict_json
from runtime.checkpoint.tokenizer import CheckpointTokenizer
from runtime.errors import ConversionError, RequestError
from runtime.messages import Message
from runtime.prompt.families import Family
from runtime.prompt.template import ChatTemplate, Prompt
from runtime.system.files import expand_user
from runtime.text import one_line

MAX_TOKENS = 512  # of a text; longer ones are truncated
BUILT_IN = Path(__file__).with_name("calibration.jsonl")
_FORMAT_HINT = 'a line is {"text": "…"} or {"messages": […], "tools": […]}, the latter as in OpenAI\'s chat API'


@dataclass(frozen=True, slots=True)
class CalibrationSample:
    """A calibration text, or a chat with its tools (JSON objects with name, description and parameters)."""

    text: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()


def read_samples(path: str | os.PathLike[str]) -> tuple[CalibrationSample, ...]:
    """Return the samples of a file. Raise ConversionError, naming the malformed line."""
    try:
        lines = expand_user(path).read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise ConversionError(
            f"cannot read {str(path)!r}: {(exc.strerror or str(exc)).lower()}", hint=_FORMAT_HINT
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConversionError(f"{str(path)!r} is not UTF-8 text", hint=_FORMAT_HINT) from exc
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_parse_sample(strict_json.parse(line)))
            except (ValueError, RequestError) as exc:
                raise ConversionError(f"{str(path)!r}, line {number}: {one_line(exc)}", hint=_FORMAT_HINT) from exc
    if not found:
        raise ConversionError(f"{str(path)!r} has no texts", hint=_FORMAT_HINT)
    return tuple(found)


def token_ids(
    samples: Sequence[CalibrationSample], family: Family, template: ChatTemplate | None, tokenizer: CheckpointTokenizer
) -> list[npt.NDArray[np.int64]]:
    """Return each sample's token ids in the family's prompt format. Raise TemplateError if the template rejects one."""
    prompts = (_prompt(sample, family, template) for sample in samples)
    ids = ([token for piece in prompt for token in tokenizer.encode(piece)][:MAX_TOKENS] for prompt in prompts)
    return [np.array(each, dtype=np.int64) for each in ids if each]


def _prompt(sample: CalibrationSample, family: Family, template: ChatTemplate | None) -> Prompt:
    if sample.text:
        return (family.prefix, sample.text) if family.prefix else (sample.text,)
    if template is None:  # a base model: the contents alone
        return (family.prefix + "\n".join(message.content for message in sample.messages if message.content),)
    messages = sample.messages if family.system else tuple(m for m in sample.messages if m.role != "system")
    if not family.tools:
        messages = tuple(m for m in messages if m.role != "tool" and not m.tool_calls)
    finished = messages[-1].role == "assistant"
    return template.render(messages, sample.tools if family.tools else (), add_generation_prompt=not finished)


def _parse_sample(line: object) -> CalibrationSample:
    """Parse a line. Raise ValueError or RequestError."""
    if not isinstance(line, Mapping):
        raise ValueError("not a JSON object")
    if "text" in line:
        if not isinstance(line["text"], str) or not line["text"].strip():
            raise ValueError('"text" must be a text that is not empty')
        return CalibrationSample(text=line["text"])
    messages = line.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError('a line needs "text" or "messages"')
    read_messages = tuple(Message.from_json(message) for message in messages)
    if not any(message.role in ("user", "assistant") and message.content for message in read_messages):
        raise ValueError("no message of a user or an assistant has content")
    return CalibrationSample(messages=read_messages, tools=tuple(_parse_tools(line.get("tools") or [])))


def _parse_tools(tools: object) -> Iterator[Mapping[str, Any]]:
    if not isinstance(tools, list):
        raise ValueError("tools must be a list")
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ValueError("a tool has no name")
        yield {"description": "", "parameters": {"type": "object", "properties": {}}} | dict(function)
