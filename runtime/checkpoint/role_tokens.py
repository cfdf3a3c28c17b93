"""Checks that role and stop tokens are special tokens: otherwise a model reads `<|user|>` as text and never stops."""

from collections.abc import Iterator
from typing import Any

from ..errors import CheckpointError, TemplateError
from ..messages import Message, ToolCall
from ..prompt.families import PROBE, SPECIAL_TOKEN, Family
from ..prompt.template import ChatTemplate
from ..text import quoted
from .tokenizer import CheckpointTokenizer

_DOWNLOAD_HINT = "the tokenizer's files do not belong together: download them again"


def require_special_stop_tokens(ids: Any, tokenizer: CheckpointTokenizer) -> None:
    """Raise CheckpointError if a stop token (eos_token_id) is not a special token."""
    special = set(tokenizer.special_tokens.values())
    for end in ids if isinstance(ids, list) else [ids]:
        if type(end) is not int or end not in special:
            token = tokenizer.tokenizer.id_to_token(end) if type(end) is int and 0 <= end < 2**32 else None
            what = "which the tokenizer does not have" if token is None else f"the ordinary token {token!r:.60}"
            raise CheckpointError(
                f"eos_token_id is {end!r:.40}, {what}", hint="config.json or generation_config.json: download it again"
            )


def require_special_role_tokens(family: Family, template: str | None, tokenizer: CheckpointTokenizer) -> None:
    """Raise CheckpointError if the template uses a special token that the tokenizer does not define as special."""
    spelled = dict.fromkeys(
        name for text in _render_all_roles(family, template) for name in SPECIAL_TOKEN.findall(text)
    )
    for name in [*spelled, *(stop for stop in family.stop_tokens if stop in tokenizer.special_tokens)]:
        if (token_id := tokenizer.special_tokens.get(name)) is None:
            raise CheckpointError(
                f"the chat template uses {quoted(name)}, which is not a special token", hint=_DOWNLOAD_HINT
            )
        text = f"x{name} y"
        ids = tokenizer.encode(text)
        if ids.count(token_id) != 1 or tokenizer.tokenizer.decode(ids, skip_special_tokens=False) != text:
            raise CheckpointError(f"the tokenizer does not encode {quoted(name)} as one token", hint=_DOWNLOAD_HINT)


def _render_all_roles(family: Family, template: str | None) -> Iterator[str]:
    """Yield the prompts that the template renders for chats with all roles, if it accepts them."""
    if template is None:
        yield family.prefix
        return
    compiled = ChatTemplate(template, family, ())
    chat = [Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "u")]
    call = Message("assistant", "", tool_calls=(ToolCall("probe_tool", "{}", id="call_1"),))
    result = Message("tool", "r", tool_call_id="call_1", name="probe_tool")
    chats: list[list[Message]] = [chat[1:2], chat[1:], chat]
    if family.tools:
        chats.append([chat[1], call, result])
    for messages in chats:
        try:
            yield "".join(compiled.render(messages, [PROBE] if family.tools else ()))
        except TemplateError:
            continue
