"""Exporting a family's reply syntax as the `response_template` of tokenizer_config.json. With it `transformers serve`
(5.17 and later) and vLLM (`--tool-call-parser hf`) parse a reply into reasoning, tool calls and text.

Format: transformers' utils/chat_parsing/response_templates.py.
"""

import re
from collections.abc import Sequence
from typing import Any

from .family import Family


def response_template(family: Family, stop_tokens: Sequence[str]) -> dict[str, Any]:
    """Return the `response_template` of the family's replies, which these tokens end, as JSON."""
    start = re.escape(family.call_start)
    ends = "|".join(re.escape(token) for token in stop_tokens)
    fields: dict[str, Any] = {}
    if family.reasoning is not None:
        fields["reasoning_content"] = {
            "open": family.reasoning.open,
            "close": family.reasoning.close,
            "content": "text",
        }
    if family.tools or family.own_tools:
        fields["tool_calls"] = {
            "open_pattern": rf"(?:{start})?\s*(?P<name>[^\W\d][\w.\-]*)\s*?\n(?=\{{)",
            "close_pattern": rf"\s*(?:{ends}|(?={start}))",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        }
    fields["content"] = {"close_pattern": rf"\s*(?:{ends})", "content": "text"}
    return {"defaults": {"role": "assistant"}, "start_anchor": family.call_start, "fields": fields}
