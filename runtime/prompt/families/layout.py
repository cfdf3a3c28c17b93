"""Layouts: the variables that GLM-4's chat templates expect, made from messages and tools.

In GLM-4's history a call is an assistant message with the tool's name as its `metadata`, and a result is an
`observation`. The templates silently drop OpenAI's `tool_calls` and role `tool`, so those are never passed.

Source: the chat templates of glm-4-9b-chat and GLM-4-0414.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from ... import strict_json
from ...messages import Message, ToolCall

# Tools that the templates of 2024 describe in their own words. Their argument is text, not JSON.
BUILT_IN = ("python", "simple_browser", "cogview")


def to_native_messages(messages: Sequence[Message], text_tools: Mapping[str, str] = {}) -> Iterator[dict[str, Any]]:
    """Yield the messages as role, metadata and content: an assistant's text before its calls, results in the calls'
    order. `text_tools` maps each tool that is called with text to the parameter that takes it.
    """
    for message in _order_results(messages):
        if message.role == "tool":
            yield {"role": "observation", "metadata": "", "content": message.content}
            continue
        if message.content or not message.tool_calls:
            yield {"role": message.role, "metadata": "", "content": message.content}
        for call in message.tool_calls:
            yield {"role": "assistant", "metadata": call.name, "content": _call_content(call, text_tools)}


def _order_results(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield the messages with results in the order of their calls: GLM-4 matches them by order alone."""
    calls: dict[str, int] = {}
    for is_result, group in groupby(messages, lambda message: message.role == "tool"):
        if is_result:
            yield from sorted(group, key=lambda message: calls.get(message.tool_call_id, len(calls)))
            continue
        for message in group:
            calls = {call.id: place for place, call in enumerate(message.tool_calls)}
            yield message


def find_text_tools(tools: Sequence[Mapping[str, Any]], built_in: Collection[str]) -> dict[str, str]:
    """Return the tools that are offered as built-in ones of the family, each with the one parameter that takes its
    text."""
    return {
        tool["name"]: next(iter(tool["parameters"]["properties"])) for tool in tools if tool.get("type") in built_in
    }


def _call_content(call: ToolCall, text_tools: Mapping[str, str]) -> str:
    if call.name not in text_tools or call.problem:
        return call.arguments
    return str(strict_json.parse(call.arguments).get(text_tools[call.name], call.arguments))


def tools_as_variable(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the variables of 0414's template, which reads `tools`."""
    return {"messages": list(to_native_messages(messages)), "tools": [_template_tool(tool) for tool in tools] or None}


def tools_in_system_message(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the variables of 2024's template, which reads the `tools` of a system message of their own."""
    written = find_text_tools(tools, BUILT_IN)
    laid_out = list(to_native_messages(messages, written))
    if tools:
        shown = [
            {"type": tool["name"]}
            if tool["name"] in written
            else {"type": "function", "function": _template_tool(tool)}
            for tool in tools
        ]
        laid_out.insert(0, {"role": "system", "metadata": "", "content": "", "tools": shown})
    return {"messages": laid_out}


def _template_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool without its `type`, which the model must not read."""
    return {key: value for key, value in tool.items() if key != "type"}
