"""Dialects of the messages of OpenAI's chat API: the layouts of its older and later versions, and of other servers."""

import json
from collections.abc import Mapping
from typing import Any

_TEXT_PARTS = {"input_text": "text", "output_text": "text", "refusal": "refusal", "text": "text"}
_IMAGE_PARTS = ("image_url", "input_image", "image")
_REASONING_PARTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_text", "summary_text")


def translate_messages(messages: list[Any]) -> list[Any]:
    """Translate each message; what is not known stays as it is, to be rejected by name."""
    out = []
    last_call = ""  # the id of the last `function_call`, which its result does not repeat
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            out.append(message)
            continue
        translated = {name: value for name, value in message.items() if value is not None}
        if isinstance(translated.get("tool_calls"), list):
            translated["tool_calls"] = [_translate_call(call) for call in translated["tool_calls"]]
        if "function_call" in translated and not translated.get("tool_calls"):  # OpenAI's layout of 2023
            last_call = f"function_call_{index}"
            translated["tool_calls"] = [_translate_call({"id": last_call, "function": translated["function_call"]})]
        if translated.get("role") == "function":
            translated |= {"role": "tool", "tool_call_id": last_call}
        if "reasoning" in translated and "reasoning_content" not in translated:  # OpenRouter's and vLLM's name
            translated["reasoning_content"] = translated.pop("reasoning")
        if not isinstance(translated.get("reasoning_content", ""), str):
            del translated["reasoning_content"]  # details that only their sender reads
        if "content" in translated:
            translated["content"] = translate_content(translated["content"], translated.get("role"))
        out.append(translated)
    return out


def translate_content(content: Any, role: Any = None) -> Any:
    """Return content with its texts as text parts, and without reasoning, which no template of GLM-4 shows. A tool's
    result may be any JSON value."""
    if _is_part(content) and content["type"] in _TEXT_PARTS:
        content = [content]
    if isinstance(content, list) and all(isinstance(part, str) or _is_part(part) for part in content):
        return [_translate_part(part) for part in content if not _is_reasoning(part)]
    if role == "tool" and not isinstance(content, str):
        return json.dumps(content, ensure_ascii=False)
    return content


def _translate_part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if part["type"] in _IMAGE_PARTS:
        return _translate_image(part)
    key = _TEXT_PARTS.get(part["type"])
    return part if key is None else {"type": "text", "text": "" if part.get(key) is None else part[key]}


def _translate_image(part: dict[str, Any]) -> Any:
    """Return a picture as a part `image_url`: those of the Responses API, of Anthropic, and of LangChain have other
    layouts."""
    url = part.get("image_url") or part.get("url") or part.get("image")
    match part:
        case {"source": {"type": "base64", "data": str(data), **source}} | {"base64": str(data), **source}:
            url = _data_url(data, source)
        case {"data": str(data), **source} if not data.startswith("data:"):
            url = _data_url(data, source)
        case {"source": {"url": str(source_url)}} | {"data": str(source_url)}:
            url = source_url
    if not isinstance(url, str):
        return part if part["type"] == "image_url" else {"type": "image_url", "image_url": url}
    return {"type": "image_url", "image_url": {"url": url}}


def _data_url(data: str, source: Mapping[Any, Any]) -> str:
    kind = source.get("media_type") or source.get("mime_type") or source.get("mimeType") or "image/png"
    return f"data:{kind};base64,{data}"


def _translate_call(call: Any) -> Any:
    """Return a call with its arguments as JSON text, and without nulls."""
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return call
    out = {name: value for name, value in call.items() if value is not None}
    function = out["function"] = dict(call["function"])
    arguments = function.get("arguments")
    if arguments in (None, ""):
        function["arguments"] = "{}"
    elif isinstance(arguments, Mapping):
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    return out


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("type"), str)


def _is_reasoning(part: Any) -> bool:
    return isinstance(part, dict) and part["type"] in _REASONING_PARTS
