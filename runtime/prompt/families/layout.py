"""How GLM-4's own templates want the history: a call is an assistant message with the tool's name as its `metadata`, a
result is an `observation`. They drop OpenAI's `tool_calls` and `tool` without a word, so those are never passed.

Source: the chat templates of glm-4-9b-chat and GLM-4-0414.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from ... import strict_json
from ...messages import Message, ToolCall

# The tools that the templates of 2024 describe in their own words. What they are called with is text, not JSON.
BUILT_IN = ("python", "simple_browser", "cogview")


def to_native_messages(messages: Sequence[Message], text_tools: Mapping[str, str] = {}) -> Iterator[dict[str, Any]]:
    """The messages as role, metadata and content: an assistant's text before its calls, results in the calls' order.

    `written` are the tools that are called with text, and the parameter that holds it.
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
    """GLM-4 tells results apart by their order alone, so they are put into that of the calls whose ids they bear."""
    calls: dict[str, int] = {}
    for is_result, group in groupby(messages, lambda message: message.role == "tool"):
        if is_result:
            yield from sorted(group, key=lambda message: calls.get(message.tool_call_id, len(calls)))
            continue
        for message in group:
            calls = {call.id: place for place, call in enumerate(message.tool_calls)}
            yield message


def find_text_tools(tools: Sequence[Mapping[str, Any]], built_in: Collection[str]) -> dict[str, str]:
    """Those of the tools that are offered as built in and are it: by name, the one parameter that holds the text."""
    return {
        tool["name"]: next(iter(tool["parameters"]["properties"])) for tool in tools if tool.get("type") in built_in
    }


def _call_content(call: ToolCall, text_tools: Mapping[str, str]) -> str:
    if call.name not in text_tools or call.problem:
        return call.arguments
    return str(strict_json.parse(call.arguments).get(text_tools[call.name], call.arguments))


def tools_as_variable(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """0414: the template reads `tools`."""
    return {"messages": list(to_native_messages(messages)), "tools": [_template_tool(tool) for tool in tools] or None}


def tools_in_system_message(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """2024: the template reads `tools` of a system message, which it opens with its own words about itself."""
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
    """A tool as a template shows it: what it is built into is not for the model to read."""
    return {key: value for key, value in tool.items() if key != "type"}
