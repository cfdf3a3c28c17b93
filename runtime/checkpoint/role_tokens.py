"""Role and stop tokens of a checkpoint, which must be special tokens: otherwise a model reads `<|user|>` as text and
never stops."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from ..chat_templates import ChatTemplates
from ..errors import CheckpointError, TemplateError
from ..events import ToolCall
from ..messages import Message
from ..prompt.families import BASE, PROBE, SPECIAL_TOKEN, Family
from ..prompt.template import ChatTemplate
from ..text import quoted
from .tokenizer import CheckpointTokenizer

_DOWNLOAD_HINT = "the tokenizer's files do not belong together: download them again"


def end_token_ids(*configs: Mapping[str, Any]) -> list[Any]:
    """Return what config.json and generation_config.json name as `eos_token_id`, a number or a list of numbers in each;
    whether they are numbers is not checked."""
    named: list[Any] = []
    for config in configs:
        ids = config.get("eos_token_id")
        named += [end for end in (ids if isinstance(ids, list) else [ids]) if end is not None and end not in named]
    return named


def resolve_stop_tokens(
    family: Family, spelled: Sequence[str], end_ids: Sequence[Any], tokenizer: CheckpointTokenizer
) -> tuple[str, ...]:
    """Return the special tokens that end a reply: those that the checkpoint names by `end_ids`, its tokenizer's end
    token, and the family's that its template writes (`spelled`). Raises CheckpointError if there are none."""
    special = tokenizer.special_tokens
    names = {token_id: name for name, token_id in special.items()}
    named = [names[end] for end in end_ids if type(end) is int and end in names]
    needed = [name for name in family.stop_tokens if name in special and (name in spelled or family is BASE)]
    if not named and not needed:
        raise CheckpointError(
            f"the tokenizer has none of the stop tokens {', '.join(family.stop_tokens)}",
            hint="the tokenizer belongs to another model: download the checkpoint's own files",
        )
    return tuple(dict.fromkeys([*named, tokenizer.eos_token, *needed]))


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


def spelled_special_tokens(family: Family, templates: ChatTemplates | None) -> list[str]:
    """Return the special tokens that the template writes for chats with all roles."""
    return list(
        dict.fromkeys(name for text in _render_all_roles(family, templates) for name in SPECIAL_TOKEN.findall(text))
    )


def require_special_role_tokens(spelled: Sequence[str], stops: Sequence[str], tokenizer: CheckpointTokenizer) -> None:
    """Raise CheckpointError if the tokenizer does not define a token that the template writes, or a stop token, as a
    special token."""
    for name in [*spelled, *stops]:
        if (token_id := tokenizer.special_tokens.get(name)) is None:
            raise CheckpointError(
                f"the chat template uses {quoted(name)}, which is not a special token", hint=_DOWNLOAD_HINT
            )
        text = f"x{name} y"
        ids = tokenizer.encode(text)
        if ids.count(token_id) != 1 or tokenizer.tokenizer.decode(ids, skip_special_tokens=False) != text:
            raise CheckpointError(f"the tokenizer does not encode {quoted(name)} as one token", hint=_DOWNLOAD_HINT)


def _render_all_roles(family: Family, templates: ChatTemplates | None) -> Iterator[str]:
    """Yield the prompts that the template renders for chats with all roles, if it accepts them."""
    if templates is None:
        yield family.prefix
        return
    compiled = ChatTemplate(templates, family, ())
    chat = [Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "u")]
    call = Message("assistant", "", tool_calls=(ToolCall("probe_tool", "{}", id="call_1"),))
    result = Message("tool", "r", tool_call_id="call_1", name="probe_tool")
    chats: list[list[Message]] = [chat[1:2], chat[1:], chat]
    shows_tools = compiled.facts(tools=True).tools
    if shows_tools:
        chats.append([chat[1], call, result])
    for messages, tools in product(chats, ((), [PROBE]) if shows_tools else ((),)):
        try:
            yield "".join(compiled.render_text(messages, tools))
        except TemplateError:
            continue
