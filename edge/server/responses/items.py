"""The items of a response's input and output: messages, function calls, their outputs, and reasoning."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from runtime.errors import RequestError
from runtime.messages import Message
from runtime.text import quoted

from ..errors import ApiError
from ..generation.message_dialects import translate_content
from ..limits import Limits
from .store.record import Item

REFERENCE = "item_reference"
SUMMARY = "Summary of the conversation so far:\n"

# The types that are stored and read, and the prefixes of their ids.
_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
    "compaction": "cmp",
}


def new_id(kind: str) -> str:
    """Return a random id for an item of that type."""
    return f"{_PREFIXES[kind]}_{uuid4().hex}"


def to_items(given: "str | Sequence[Mapping[str, Any]]", param: str = "input") -> list[Item]:
    """Return the input's items in the form in which the API lists them, each with an id and a type; references stay.
    Raises ApiError for an item of an unknown type."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_to_item(item, f"{param}[{index}]") for index, item in enumerate(given)]


def _to_item(item: Mapping[str, Any], param: str) -> Item:
    kind = item.get("type") or ("message" if "role" in item else REFERENCE if "id" in item else "message")
    if kind == REFERENCE:
        if not isinstance(item.get("id"), str):
            raise ApiError(400, f"{param}: an item_reference needs an id", param=f"{param}.id", code="invalid_value")
        return {"type": kind, "id": item["id"]}
    if not isinstance(kind, str) or kind not in _PREFIXES:
        message = f"items of the type {quoted(kind)} are not supported"
        raise ApiError(400, message, param=param, code="invalid_value")
    id = item.get("id")
    out = {"type": kind, "id": id if isinstance(id, str) and id else new_id(kind)}
    out |= {name: value for name, value in item.items() if name not in out}
    if kind == "message":
        out |= {"content": _to_parts(item.get("content"), item.get("role"))}
    return out if kind == "reasoning" else out | {"status": item.get("status") or "completed"}


def _to_parts(content: Any, role: Any) -> Any:
    """Return a text as a list of one part, as the API lists it."""
    if not isinstance(content, str):
        return content
    return [
        {"type": "output_text", "text": content, "annotations": []}
        if role == "assistant"
        else {"type": "input_text", "text": content}
    ]


def to_messages(instructions: str | None, items: Sequence[Item], limits: Limits) -> list[Message]:
    """Convert the instructions and the items of a context. Raises ApiError for what the model cannot read."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    if len(items) > limits.messages:
        raise ApiError(400, f"there are more than {limits.messages:,} items", param="input", code="too_many")
    names: dict[str, str] = {}  # of the tools, by the calls' ids
    for item in items:
        last = messages[-1] if messages and messages[-1]["role"] == "assistant" else None
        match item["type"]:
            case "message":
                content = translate_content(item.get("content"), item.get("role"))
                messages.append({"role": item.get("role"), "content": content})
            case "function_call" | "custom_tool_call":
                names[str(item.get("call_id"))] = str(item.get("name"))
                if last is None:  # calls of one reply are one message
                    last = {"role": "assistant", "content": ""}
                    messages.append(last)
                last.setdefault("tool_calls", []).append(_to_call(item))
            case "function_call_output" | "custom_tool_call_output":
                call = str(item.get("call_id"))
                content = translate_content(item.get("output"), "tool")
                messages.append({"role": "tool", "tool_call_id": call, "name": names.get(call, ""), "content": content})
            case "compaction":
                messages.append({"role": "system", "content": SUMMARY + str(item.get("encrypted_content") or "")})
            case _:  # reasoning: GLM-4's template leaves out that of earlier replies
                pass
    try:
        return [Message.from_json(message) for message in messages]
    except RequestError as exc:
        raise ApiError(400, f"{exc}; {exc.hint}", param="input", code="invalid_value") from exc


def _to_call(item: Item) -> dict[str, Any]:
    arguments = {"input": item.get("input")} if item["type"] == "custom_tool_call" else item.get("arguments") or "{}"
    return {"id": item.get("call_id"), "function": {"name": item.get("name"), "arguments": arguments}}
