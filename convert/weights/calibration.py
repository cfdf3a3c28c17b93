"""The texts by which a recipe learns which weights matter: ours, or the user's, laid out as the checkpoint reads them.

A file has an object a line: {"text": …}, or a chat in OpenAI's layout, {"messages": […], "tools": […]}. Ours is
such a file, written for this purpose: English, Chinese, code and tool calls.
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

TOKENS = 512  # of a text, at most; what is longer is cut
BUILT_IN = Path(__file__).with_name("calibration.jsonl")
_FORM = 'a line is {"text": "…"} or {"messages": […], "tools": […]}, the latter as in OpenAI\'s chat API'


@dataclass(frozen=True, slots=True)
class Sample:
    """A text, or a chat and the tools it had (JSON objects with name, description and parameters)."""

    text: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()


def read(path: str | os.PathLike[str]) -> tuple[Sample, ...]:
    """The samples of a file. Raises ConversionError, naming the line that is wrong."""
    try:
        lines = expand_user(path).read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise ConversionError(f"cannot read {str(path)!r}: {(exc.strerror or str(exc)).lower()}", hint=_FORM) from exc
    except UnicodeDecodeError as exc:
        raise ConversionError(f"{str(path)!r} is not UTF-8 text", hint=_FORM) from exc
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_sample(strict_json.parse(line)))
            except (ValueError, RequestError) as exc:
                raise ConversionError(f"{str(path)!r}, line {number}: {one_line(exc)}", hint=_FORM) from exc
    if not found:
        raise ConversionError(f"{str(path)!r} holds no texts", hint=_FORM)
    return tuple(found)


def token_ids(
    samples: Sequence[Sample], family: Family, template: ChatTemplate | None, tokenizer: CheckpointTokenizer
) -> list[npt.NDArray[np.int64]]:
    """Each sample's tokens, in the family's own prompt format. Raises TemplateError where the template refuses one."""
    prompts = (_prompt(sample, family, template) for sample in samples)
    ids = ([id for piece in prompt for id in tokenizer.encode(piece)][:TOKENS] for prompt in prompts)
    return [np.array(each, dtype=np.int64) for each in ids if each]


def _prompt(sample: Sample, family: Family, template: ChatTemplate | None) -> Prompt:
    if sample.text:
        return (family.prefix, sample.text) if family.prefix else (sample.text,)
    if template is None:  # a base model: the words alone
        return (family.prefix + "\n".join(message.content for message in sample.messages if message.content),)
    messages = sample.messages if family.system else tuple(m for m in sample.messages if m.role != "system")
    if not family.tools:
        messages = tuple(m for m in messages if m.role != "tool" and not m.tool_calls)
    finished = messages[-1].role == "assistant"
    return template.render(messages, sample.tools if family.tools else (), add_generation_prompt=not finished)


def _sample(line: object) -> Sample:
    """Raises ValueError or RequestError."""
    if not isinstance(line, Mapping):
        raise ValueError("it is no JSON object")
    if "text" in line:
        if not isinstance(line["text"], str) or not line["text"].strip():
            raise ValueError("its text is empty, or no text")
        return Sample(text=line["text"])
    messages = line.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("it has no text and no messages")
    read_messages = tuple(Message.from_json(message) for message in messages)
    if not any(message.role in ("user", "assistant") and message.content for message in read_messages):
        raise ValueError("nobody says anything in its messages")
    return Sample(messages=read_messages, tools=tuple(_tools(line.get("tools") or [])))


def _tools(tools: object) -> Iterator[Mapping[str, Any]]:
    if not isinstance(tools, list):
        raise ValueError("its tools are no list")
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ValueError("a tool has no name")
        yield {"description": "", "parameters": {"type": "object", "properties": {}}} | dict(function)
