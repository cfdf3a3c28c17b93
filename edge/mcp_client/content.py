"""The result of an MCP tool as text for a model. Images and other binary content appear as placeholders."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runtime.text import one_line

if TYPE_CHECKING:
    from mcp.types import CallToolResult

_COMPARED = 1_000_000  # characters of a text that is compared with the structured content


def to_text(result: "CallToolResult") -> str:
    """Return a result's text: its content in order, and its structured content unless the texts repeat it."""
    blocks = list(_texts(result.content))
    structured = result.structured_content
    if structured is not None:
        texts = [block.text for block in result.content if block.type == "text"]
        if not _repeat(texts, structured):
            blocks.append(json.dumps(structured, ensure_ascii=False))
    return "\n\n".join(blocks)


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


def _repeat(texts: list[str], structured: Any) -> bool:
    """Return whether the texts are the structured content, or the only value in it: the SDK puts a value that is not an
    object under "result", and a list into one text for each item."""
    wanted = [structured]
    if isinstance(structured, dict) and len(structured) == 1:
        wanted += structured.values()
    if sum(map(len, texts)) > _COMPARED:
        return any(text in wanted for text in texts)
    values = list(map(_parse, texts))
    return texts in wanted or values in wanted or any(value in wanted for value in (*texts, *values))


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
