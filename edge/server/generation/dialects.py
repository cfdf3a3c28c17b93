"""Dialects of OpenAI's API: what clients send for "no limit", "off" and "none", translated before validation.

Sources: the requests of LM Studio, SillyTavern, Open WebUI, LibreChat and Cursor; the servers vLLM, llama.cpp and TGI.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..errors import ApiError
from .message_dialects import translate_messages

Body = dict[str, Any]

_NO_LIMIT = 2**31  # no context is as long: JavaScript's largest integer, and others, are "no limit"
_RANDOM_SEEDS = (-1, 2**32 - 1, 2**64 - 1)  # llama.cpp's -1, as it is and as an unsigned number

# The names of a limit of the reply's tokens, OpenAI's three first; a request's own field stands for the others.
_TOKEN_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens", "n_predict")

# Other servers' names of our fields.
_ALIASES = {
    "repeat_penalty": "repetition_penalty",  # llama.cpp, LM Studio, Ollama
    "random_seed": "seed",  # Mistral
    "stop_sequences": "stop",  # Anthropic, Cohere
}

# Settings of other servers that would change a reply, and the values with which they do not.
_OFF: Mapping[str, tuple[Any, ...]] = {
    "min_tokens": (0, -1),
    "min_length": (0, -1),
    "ignore_eos": (False,),
    "ban_eos_token": (False,),
    "stop_token_ids": ([],),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "banned_tokens": ([],),
    "typical_p": (0, 1),
    "tfs": (0, 1),
    "tfs_z": (0, 1),
    "top_a": (0,),
    "top_n_sigma": (0, -1),
    "mirostat": (0,),
    "mirostat_mode": (0,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "dynatemp_range": (0,),
    "smoothing_factor": (0,),
    "no_repeat_ngram_size": (0, -1),
    "guidance_scale": (0, 1),
    "use_beam_search": (False,),
    "num_beams": (0, 1),
    "length_penalty": (0, 1),
    "prompt_logprobs": (0, False),
    "modalities": ([], ["text"]),
    "audio": ({},),
}


def _no_limit(value: Any) -> Any:
    return None if _is_number(value) and (value in (-1, -2) or value >= _NO_LIMIT) else value


def _not_negative(value: Any) -> Any:
    return 0 if _is_number(value) and value < 0 else value


def _seed(value: Any) -> Any:
    return None if _is_number(value) and value in _RANDOM_SEEDS else value


def _stop(value: Any) -> Any:
    if isinstance(value, list):
        return [text for text in value if text not in ("", None)] or None
    return value or None


def _or_none(value: Any) -> Any:
    return value or None


def _response_format(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) and value else value or None


# The fields whose values have dialects.
_VALUES: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_TOKEN_LIMITS, _no_limit),
    "top_k": _not_negative,  # vLLM's -1 is "off", as 0 is ours
    "min_p": _not_negative,
    "seed": _seed,
    "stop": _stop,
    "logit_bias": _or_none,  # [] in llama.cpp
    "response_format": _response_format,
    "model": _or_none,
    "tools": _or_none,
}


def translate(body: Body, fields: Collection[str]) -> Body:
    """Translate a request whose API has these fields. Raises ApiError for a setting that would change the reply and is
    not supported."""
    _reject_settings(body, fields)
    out = _rename(body, fields)
    for name, to_ours in _VALUES.items():
        if name in out:
            out[name] = to_ours(out[name])
    if "messages" in fields and isinstance(out.get("messages"), list):
        out["messages"] = translate_messages(out["messages"])
    if "tools" in fields:
        nested = "messages" in fields
        if isinstance(out.get("tools"), list):
            out["tools"] = [_tool(tool, nested) for tool in out["tools"]]
        if "tool_choice" in out:
            out["tool_choice"] = _tool_choice(out["tool_choice"], nested)
    if "chat_template_kwargs" in fields:
        _translate_reasoning(out)
    return out


def _reject_settings(body: Body, fields: Collection[str]) -> None:
    for name, off in _OFF.items():
        value = None if name in fields else body.get(name)
        if value is not None and value not in off:
            cure = f"leave it out, or send {json.dumps(off[0])} (off)"
            message = f"{name} is not supported: {cure}"
            raise ApiError(400, message, param=name, code="unsupported_parameter")


def _rename(body: Body, fields: Collection[str]) -> Body:
    out = dict(body)
    own = next((name for name in _TOKEN_LIMITS if name in fields), None)
    aliases = _ALIASES | ({name: own for name in _TOKEN_LIMITS if name not in fields} if own else {})
    for name, ours in aliases.items():
        if name in out and name not in fields and ours in fields:
            value = out.pop(name)
            if out.get(ours) is None:
                out[ours] = value
    return out


def _tool(tool: Any, nested: bool) -> Any:
    """Return a function in this API's layout: under `function` in chats, flat in responses. The other API's layout and
    Anthropic's are translated, other types of tools stay as they are."""
    if not isinstance(tool, dict):
        return tool
    if "type" not in tool and ("function" in tool or "name" in tool):
        tool = tool | {"type": "function"}
        if "input_schema" in tool:
            tool["parameters"] = tool.pop("input_schema")
    if tool.get("type") != "function":
        return tool
    inner = tool.get("function")
    if nested and inner is None and "name" in tool:
        return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
    if not nested and isinstance(inner, dict):
        return inner | {"type": "function"}
    return tool


def _tool_choice(choice: Any, nested: bool) -> Any:
    """Return the choice in OpenAI's words: "any" is Mistral's and Anthropic's "required", an object without a name is
    its type."""
    if choice == "any":
        return "required"
    if not isinstance(choice, dict):
        return choice or None
    kind, function = choice.get("type"), choice.get("function")
    name = function.get("name") if isinstance(function, dict) else choice.get("name")
    if kind in ("function", "tool", None) and name is not None:
        return {"type": "function"} | ({"function": {"name": name}} if nested else {"name": name})
    return _tool_choice(kind, nested) if kind in ("any", "auto", "none", "required") else choice


def _translate_reasoning(body: Body) -> None:
    """Make variables of the chat template of the fields that switch reasoning on or off, and of its effort."""
    found: Body = {}
    reasoning, thinking = body.get("reasoning"), body.get("thinking")
    settings = reasoning if isinstance(reasoning, dict) else {}
    effort = body.get("reasoning_effort") or settings.get("effort")
    switches = [body.get("enable_thinking"), body.get("think"), settings.get("enabled")]
    if isinstance(thinking, dict) and thinking.get("type") in ("enabled", "disabled"):  # Zhipu's own API
        switches.append(thinking["type"] == "enabled")
    for switch in switches:
        if isinstance(switch, bool):
            found["enable_thinking"] = switch
        elif isinstance(switch, str):  # Ollama's
            effort = effort or switch
    if isinstance(effort, str):
        found["reasoning_effort"] = effort
        if effort == "none":
            found["enable_thinking"] = False
    variables = body.get("chat_template_kwargs")
    if found and (variables is None or isinstance(variables, dict)):
        body["chat_template_kwargs"] = found | (variables or {})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
