"""The messages of Anthropic's API and their content blocks, and how they become messages of a chat."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import Field

from runtime.errors import RequestError
from runtime.events import ToolCall
from runtime.messages import Message
from runtime.pictures import Picture
from runtime.text import quoted

from ..errors import ApiError
from ..generation.content import Content, read_base64, read_url
from ..generation.fields import LIST_LIMIT, RequestModel
from ..limits import Limits


class TextBlock(RequestModel):
    """A piece of text. `cache_control` is ignored: every prompt is cached."""

    type: Literal["text"]
    text: str


class ImageSource(RequestModel):
    """A picture's file in base64, or its URL, which may only be a `data:` URL."""

    type: str
    data: str | None = None
    url: str | None = None


class ImageBlock(RequestModel):
    """A picture."""

    type: Literal["image"]
    source: ImageSource


class CitationSettings(RequestModel):
    """Whether the reply cites a document."""

    enabled: bool | None = None


class DocumentBlock(RequestModel):
    """A document whose `source` has its text: {"type": "text", "data": …} or {"type": "content", "content": …}."""

    type: Literal["document"]
    source: dict[str, Any]
    title: str | None = None
    context: str | None = None
    citations: CitationSettings | None = None


class SearchResultBlock(RequestModel):
    """A result of the client's own search."""

    type: Literal["search_result"]
    source: str
    title: str
    content: Annotated[list[TextBlock], LIST_LIMIT]
    citations: CitationSettings | None = None


ResultBlock = Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]


class ToolResultBlock(RequestModel):
    """The result of a tool call."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | Annotated[list[ResultBlock], LIST_LIMIT] | None = None
    is_error: bool | None = None


class ToolUseBlock(RequestModel):
    """A tool call of an earlier reply."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingBlock(RequestModel):
    """The reasoning of an earlier reply. Its signature is not checked."""

    type: Literal["thinking"]
    thinking: str


class RedactedThinkingBlock(RequestModel):
    """Encrypted reasoning of another model, which is left out."""

    type: Literal["redacted_thinking"]


ContentBlock = Annotated[
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ToolResultBlock
    | ToolUseBlock
    | ThinkingBlock
    | RedactedThinkingBlock,
    Field(discriminator="type"),
]
SystemPrompt = str | Annotated[list[TextBlock], LIST_LIMIT]


class MessageParam(RequestModel):
    """A message of any role. A user's message may have the results of tool calls."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[ContentBlock], LIST_LIMIT]


def to_messages(system: SystemPrompt | None, params: Sequence[MessageParam], limits: Limits) -> list[Message]:
    """Convert a request's messages: consecutive ones of the user or the assistant become one, each tool result a
    message of its own. Raises ApiError for too many, or for content that the model cannot read."""
    _require_count(params, limits)
    opening = system if isinstance(system, str) else _join(block.text for block in system or ())
    messages = [Message("system", opening)] if opening else []
    names: dict[str, str] = {}  # of the tools, by their calls' ids
    converted = (
        message for index, param in enumerate(params) for message in _convert(param, names, f"messages[{index}]")
    )
    for role, group in groupby(converted, lambda message: message.role):
        consecutive = list(group)
        messages += [_merge(consecutive)] if role in ("user", "assistant") else consecutive
    _require_count(messages, limits)
    return messages


def _require_count(messages: Sequence[object], limits: Limits) -> None:
    if len(messages) > limits.messages:
        text = f"there are more than {limits.messages:,} messages"
        raise ApiError(400, text, param="messages", code="too_many")


def _merge(messages: Sequence[Message]) -> Message:
    return Content(part for message in messages for part in message.parts).message(
        messages[0].role,
        reasoning=_join(message.reasoning for message in messages),
        tool_calls=tuple(call for message in messages for call in message.tool_calls),
    )


def _convert(param: MessageParam, names: dict[str, str], path: str) -> list[Message]:
    """Convert one message. `names` maps the ids of tool calls to their tools' names, and gains those of this one."""
    if isinstance(param.content, str):
        return [Message(param.role, param.content)]
    content = Content()
    reasoning: list[str] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for index, block in enumerate(param.content):
        at = f"{path}.content[{index}]"
        match block:
            case ToolUseBlock(id=id, name=name) if param.role == "assistant":
                names[id] = name
                calls.append(_to_call(block, at))
            case ThinkingBlock(thinking=thinking) if param.role == "assistant":
                reasoning.append(thinking)
            case RedactedThinkingBlock() if param.role == "assistant":
                pass
            case ToolResultBlock(tool_use_id=id) if param.role == "user":
                results.append(_result(block, at).message("tool", tool_call_id=id, name=names.get(id, "")))
            case TextBlock() | ImageBlock() | DocumentBlock() | SearchResultBlock():
                content.add(_to_part(block, at))
            case _:
                message = f"a message of the role {param.role} has no {block.type} blocks"
                raise ApiError(400, message, param=at, code="invalid_value")
    if results and not content:
        return results
    return [*results, content.message(param.role, reasoning=_join(reasoning), tool_calls=tuple(calls))]


def _to_call(block: ToolUseBlock, path: str) -> ToolCall:
    try:
        return ToolCall(block.name, json.dumps(block.input, ensure_ascii=False), block.id)
    except (RequestError, RecursionError) as exc:
        raise ApiError(400, f"the input cannot be read: {exc}", param=f"{path}.input", code="invalid_value") from exc


def _result(result: ToolResultBlock, path: str) -> Content:
    """Return a tool's result as the model reads it. That of a failed call begins with "Error", as ours do."""
    if isinstance(result.content, str):
        parts: list[str | Picture] = [result.content]
    else:
        parts = [_to_part(block, f"{path}.content[{index}]") for index, block in enumerate(result.content or ())]
    text = next((part for part in parts if isinstance(part, str)), "")
    if result.is_error and not text.startswith("Error"):
        parts = [f"Error: {text}", *(part for part in parts if part is not text)]
    return Content(parts)


def _to_part(block: TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, path: str) -> str | Picture:
    """Return a block as a picture or a text. Raises ApiError for one that is neither."""
    if isinstance(block, TextBlock):
        return block.text
    if isinstance(block, ImageBlock):
        return _to_picture(block.source, f"{path}.source")
    if block.citations and block.citations.enabled:
        message = "citations are not supported; leave them out"
        raise ApiError(400, message, param=f"{path}.citations", code="unsupported_parameter")
    if isinstance(block, SearchResultBlock):
        return _join((block.title, block.source, *(text.text for text in block.content)))
    match block.source:
        case {"type": "text", "data": str(text)} | {"type": "content", "content": str(text)}:
            pass
        case {"type": "content", "content": list(items)} if all(_is_text(item) for item in items):
            text = _join(item["text"] for item in items)
        case _:
            message = "documents are read as text only; send a source of the type text"
            raise ApiError(400, message, param=f"{path}.source", code="unsupported_parameter")
    return _join((block.title or "", block.context or "", text))


def _to_picture(source: ImageSource, path: str) -> Picture:
    match source.type:
        case "base64":
            return read_base64(source.data, f"{path}.data")
        case "url":
            return read_url(source.url, f"{path}.url")
    message = f"{path}: images of the type {quoted(source.type)} are not supported; send base64"
    raise ApiError(400, message, param=path, code="unsupported_parameter")


def _is_text(item: object) -> bool:
    return isinstance(item, dict) and item.get("type") == "text" and isinstance(item.get("text"), str)


def _join(texts: Iterable[str]) -> str:
    """Join blocks, which are passages of their own."""
    return "\n".join(filter(None, texts))
