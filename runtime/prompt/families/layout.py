"""Layouts: the variables from which a chat template reads messages and tools.

GLM-4's own templates want a call as an assistant message with the tool's name as its `metadata`, and a result as an
`observation`; they silently drop OpenAI's `tool_calls` and role `tool`. The templates of fine-tunes want these. Which
layout a template reads is found by rendering (`runtime/prompt/probes.py`).

Sources: the chat templates of glm-4-9b-chat and GLM-4-0414; transformers' documentation of chat templates.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from ... import strict_json
from ...events import ToolCall
from ...messages import Message
from .observations import BROWSER, split_observations

# Tools that the templates of 2024 describe in their own words. Their argument is text, not JSON.
BUILT_IN = ("python", BROWSER, "cogview")

NATIVE_RESULT = "observation"  # the role of a result in GLM-4's own messages
RESULT_TOKEN = f"<|{NATIVE_RESULT}|>"

ToolsPlace = Literal["function", "bare", "system_message"]
CallsPlace = Literal["tool_calls", "metadata", "text"]


@dataclass(frozen=True, slots=True)
class MessageLayout:
    """Where a chat template looks for tools, calls, results and texts.

    `tools`: in the variable `tools`, each as OpenAI's {"type": "function", "function": …} or as the `bare` function; or
    in the `tools` of a `system_message`. `calls`: in OpenAI's `tool_calls`; as the `metadata` of an assistant message
    whose content is the arguments; or in the `text` of an assistant message, for a template that has no place for them.
    In `tool_calls`, the name and the arguments stand in a `function` or not, and the arguments are text or `parsed`.
    `result_role` is the role of a tool's result. With `parts`, content is a list with a text part.
    """

    tools: ToolsPlace = "function"
    calls: CallsPlace = "metadata"
    function: bool = True
    parsed: bool = False
    result_role: str = NATIVE_RESULT
    parts: bool = False

    def __call__(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the variables `messages` and `tools`. Tools are JSON objects with a name."""
        text_tools = find_text_tools(tools, BUILT_IN if self.tools == "system_message" else ())
        laid_out = list(self._lay_out(messages, text_tools))
        if self.parts:
            laid_out = [message | {"content": _text_part(message["content"])} for message in laid_out]
        if self.tools == "system_message":
            offered = [
                {"type": tool["name"]}
                if tool["name"] in text_tools
                else {"type": "function", "function": _template_tool(tool)}
                for tool in tools
            ]
            first = [{"role": "system", "metadata": "", "content": "", "tools": offered}] if tools else []
            return {"messages": [*first, *laid_out], "tools": None}
        shown = [_template_tool(tool) for tool in tools]
        if self.tools == "function":
            shown = [{"type": "function", "function": tool} for tool in shown]
        return {"messages": laid_out, "tools": shown or None}

    def _lay_out(self, messages: Sequence[Message], text_tools: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        if self.calls == "tool_calls":
            return map(self._to_openai, messages)
        if self.calls == "metadata":
            return to_native_messages(messages, text_tools, self.result_role)
        return _to_text_messages(messages, self.result_role)

    def _to_openai(self, message: Message) -> dict[str, Any]:
        out: dict[str, Any] = {"role": message.role, "content": message.content} | _reasoning_fields(message)
        if message.tool_calls:
            out["tool_calls"] = [self._to_openai_call(call) for call in message.tool_calls]
        if message.role == "tool":
            out |= {"role": self.result_role, "tool_call_id": message.tool_call_id}
        return out | ({"name": message.name} if message.name else {})

    def _to_openai_call(self, call: ToolCall) -> dict[str, Any]:
        arguments: Any = call.arguments
        if self.parsed and not call.problem:
            arguments = strict_json.parse(call.arguments)
        inner = {"name": call.name, "arguments": arguments}
        return {"id": call.id, "type": "function"} | ({"function": inner} if self.function else inner)


def to_native_messages(
    messages: Sequence[Message], text_tools: Mapping[str, str] = {}, result_role: str = NATIVE_RESULT
) -> Iterator[dict[str, Any]]:
    """Yield the messages as role, metadata and content: an assistant's text before its calls, results in the calls'
    order. `text_tools` maps each tool that is called with text to the parameter that takes it.
    """
    names: dict[str, str] = {}
    for message in _order_results(messages):
        if message.role == "tool":
            name = names.get(message.tool_call_id, message.name)
            browsed = name == BROWSER and BROWSER in text_tools
            for metadata, content in split_observations(message.content) if browsed else [("", message.content)]:
                yield {"role": result_role, "metadata": metadata, "content": content}
            continue
        names |= {call.id: call.name for call in message.tool_calls}
        if message.content or not message.tool_calls:
            native = {"role": message.role, "metadata": "", "content": message.content}
            yield native | _reasoning_fields(message)
        for call in message.tool_calls:
            yield {"role": "assistant", "metadata": call.name, "content": _call_content(call, text_tools)}


def _to_text_messages(messages: Sequence[Message], result_role: str) -> Iterator[dict[str, Any]]:
    """Yield the messages as role and content: calls as GLM-4 spells them, in the text of the message that makes them.
    Results in a row are one message."""
    for is_result, group in groupby(_order_results(messages), lambda message: message.role == "tool"):
        if is_result:
            yield {"role": result_role, "content": "\n".join(message.content for message in group)}
            continue
        for message in group:
            calls = (f"{call.name}\n{call.arguments}" for call in message.tool_calls)
            content = "\n".join(text for text in (message.content, *calls) if text)
            yield {"role": message.role, "content": content} | _reasoning_fields(message)


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


def _reasoning_fields(message: Message) -> dict[str, Any]:
    """Return the reasoning under the two names that transformers gives it."""
    return {"reasoning_content": message.reasoning, "thinking": message.reasoning} if message.reasoning else {}


def _text_part(content: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}]


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


def _template_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool without its `type`, which the model must not read."""
    return {key: value for key, value in tool.items() if key != "type"}
