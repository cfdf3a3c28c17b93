"""The result of an MCP tool as text for a model. Images and other binary content appear as placeholders."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runtime.text import one_line

if TYPE_CHECKING:
    from mcp.types import CallToolResult

_COMPARED = 1_000_000  # characters of a text that is compared with the structured content


def to_text(result: "CallToolResult") -> str:
    """Return a result's text: its content in order, and its structured content unless a text repeats it."""
    blocks = list(_texts(result.content))
    structured = result.structured_content
    if structured is not None and not any(_repeats(text, structured) for text in _plain_texts(result.content)):
        blocks.append(json.dumps(structured, ensure_ascii=False))
    return "\n\n".join(blocks)


def _plain_texts(content: list[Any]) -> Iterator[str]:
    return (block.text for block in content if block.type == "text")


def _texts(content: list[Any]) -> Iterator[str]:
    for block in content:
        match block.type:
            case "text":
                yield block.text
            case "image" | "audio":
                yield f"[{block.type}: {one_line(block.mime_type, 100)}, {_decoded_size(block.data):,} bytes]"
            case "resource_link":
                notes = " ".join(filter(None, (block.title or block.name, block.description)))
                yield f"[resource {one_line(block.uri, 2000)}: {one_line(notes)}]"
            case "resource":
                inner = block.resource
                name = f"resource {one_line(inner.uri, 2000)}"
                if (text := getattr(inner, "text", None)) is not None:
                    yield f"[{name}]\n{text}"
                else:
                    kind = one_line(inner.mime_type or "binary", 100)
                    yield f"[{name}: {kind}, {_decoded_size(inner.blob):,} bytes]"
            case other:
                yield f"[{one_line(other, 100)}]"


def _decoded_size(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")


def _repeats(text: str, structured: Any) -> bool:
    """Return whether a text is the structured content, or the value that the SDK has put under "result"."""
    values = [structured]
    if isinstance(structured, dict) and structured.keys() == {"result"}:
        values.append(structured["result"])
    if text in values:
        return True
    if len(text) > _COMPARED:
        return False
    try:
        return json.loads(text) in values
    except (ValueError, RecursionError):
        return False
