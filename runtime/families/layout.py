"""How GLM-4's own templates want the history: a call is an assistant message with the tool's name as its `metadata`, a
result is an `observation`. They drop OpenAI's `tool_calls` and `tool` without a word, so those are never passed.

Source: the chat templates of glm-4-9b-chat and GLM-4-0414.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from ..messages import Message


def native(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    """The messages as role, metadata and content: an assistant's text before its calls, results in the calls' order."""
    for message in _in_order(messages):
        if message.role == "tool":
            yield {"role": "observation", "metadata": "", "content": message.content}
            continue
        if message.content or not message.tool_calls:
            yield {"role": message.role, "metadata": "", "content": message.content}
        for call in message.tool_calls:
            yield {"role": "assistant", "metadata": call.name, "content": call.arguments}


def _in_order(messages: Sequence[Message]) -> Iterator[Message]:
    """GLM-4 tells results apart by their order alone, so they are put into that of the calls whose ids they bear."""
    calls: dict[str, int] = {}
    for is_result, group in groupby(messages, lambda message: message.role == "tool"):
        if is_result:
            yield from sorted(group, key=lambda message: calls.get(message.tool_call_id, len(calls)))
            continue
        for message in group:
            calls = {call.id: place for place, call in enumerate(message.tool_calls)}
            yield message


def tools_beside(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """0414: the template reads `tools`."""
    return {"messages": list(native(messages)), "tools": list(tools) or None}


def tools_in_system(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """2024: the template reads `tools` of a system message, which it opens with its own words about itself."""
    laid_out = list(native(messages))
    if tools:
        functions = [{"type": "function", "function": tool} for tool in tools]
        laid_out.insert(0, {"role": "system", "metadata": "", "content": "", "tools": functions})
    return {"messages": laid_out}
