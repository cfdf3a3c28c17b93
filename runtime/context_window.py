"""Conversations longer than the context: the prompt leaves out their oldest turns, the conversation stays whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from .documents.attachment import has_documents
from .errors import PromptTooLong
from .messages import Message
from .model import Model

Overflow = Literal["refuse", "drop"]
OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)
NEARLY_FULL = 0.85  # of the context: the user is warned
_REPLY_SHARE = 4  # a reply without a limit has a quarter of the context, and no more than
_REPLY_TOKENS = 1024
_LIMITED_SHARE = 2  # a reply with a limit: half of the context, and no more than its limit
_MARKUP = 8  # tokens around a message or a call, at most
_PROBE = Message("user", "?")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The messages of a conversation that the model reads, and how many older ones are left out."""

    messages: tuple[Message, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """What the model reads of a conversation: the system messages, the user's last message with what follows it, and as
    many of the latest turns as fit `context` tokens beside a reply of `reply_tokens` (None: no limit).

    Turns are left out as a whole, a call with its results. A cut leaves half of the room free, so that several turns
    fit before the next cut, and the engine's prefix cache stays of use. The cuts follow from the messages alone: when
    the conversation goes on, the earlier ones stay where they were. With `keep_attachments`, turns with pictures or
    documents are left out last.

    `count_tokens` counts the tokens of a prompt of messages, with the tools; `count_text` those of a text.
    """

    context: int
    reply_tokens: int | None
    count_tokens: Callable[[Sequence[Message]], int]
    count_text: Callable[[str], int]
    keep_attachments: bool = False

    @classmethod
    def create(
        cls,
        model: Model,
        tools: Sequence[Mapping[str, Any]],
        reply_tokens: int | None,
        template_variables: Mapping[str, Any] | None = None,
        *,
        keep_attachments: bool = False,
    ) -> "ContextWindow":
        """Create the window of a model's context."""

        def count_tokens(messages: Sequence[Message]) -> int:
            prompt = model.template.render(messages, tools, variables=template_variables)
            return model.backend.count_tokens(prompt)

        return cls(model.backend.max_prompt_tokens, reply_tokens, count_tokens, model.count_text, keep_attachments)

    def fit(self, messages: Sequence[Message]) -> Excerpt:
        """Return what the model reads of the messages. It is too long only if the last turn alone is."""
        room = self.context - _reply_room(self.context, self.reply_tokens)
        if self._count(messages) <= room:
            return Excerpt(tuple(messages))
        turns = _turns(messages)
        dropped = self._cut(messages, turns, room)
        rest = [turn for turn in self._order(messages, turns) if turn not in dropped] + _rounds(messages)
        excerpt = _without(messages, dropped)
        while rest and self._count(excerpt.messages) > room:
            dropped.append(rest.pop(0))
            excerpt = _without(messages, dropped)
        return excerpt

    def _cut(self, messages: Sequence[Message], turns: Sequence[range], room: int) -> list[range]:
        """Return the turns that the cuts leave out, made one after the other as the conversation grew."""
        system = [message for message in messages if message.role == "system"]
        fixed = self._count([*system, _PROBE])
        target = fixed + max(room - fixed, 0) // 2
        used, past = fixed, 0  # the tokens before the message, and the turns that have ended
        dropped: list[range] = []
        sizes = [0 if one.role == "system" else self._size(one, system, fixed) for one in messages]
        for index in range(len(messages) + 1):
            if index == len(messages) or messages[index].role == "assistant":  # the model has read up to here
                past += sum(turn.stop <= index for turn in turns[past:])
                if used > room:
                    kept = [turn for turn in self._order(messages, turns[:past]) if turn not in dropped]
                    while kept and used > target:
                        dropped.append(kept.pop(0))
                        used -= sum(sizes[dropped[-1].start : dropped[-1].stop])
            used += sizes[index] if index < len(messages) else 0
        return dropped

    def _order(self, messages: Sequence[Message], turns: Sequence[range]) -> list[range]:
        """Return the turns, the first to be left out first."""

        def attached(turn: range) -> bool:
            return any(messages[index].pictures or has_documents(messages[index].content) for index in turn)

        return sorted(turns, key=attached) if self.keep_attachments else list(turns)

    def _size(self, message: Message, system: Sequence[Message], fixed: int) -> int:
        """Return about how many tokens the message has in a prompt; its reasoning is not part of later prompts."""
        if message.pictures:
            return max(self._count([*system, Message("user", message.content, pictures=message.pictures)]) - fixed, 0)
        calls = [text for call in message.tool_calls for text in (call.name, call.arguments)]
        texts = [text for text in (message.content, *calls) if text]
        return sum(map(self._count_text, texts)) + _MARKUP * (1 + len(message.tool_calls))

    def _count(self, messages: Sequence[Message]) -> int:
        try:
            return self.count_tokens(messages)
        except PromptTooLong:
            return self.context + 1

    def _count_text(self, text: str) -> int:
        try:
            return self.count_text(text)
        except PromptTooLong:
            return self.context + 1


def _reply_room(context: int, reply_tokens: int | None) -> int:
    if reply_tokens is None:
        return min(context // _REPLY_SHARE, _REPLY_TOKENS)
    return min(context // _LIMITED_SHARE, reply_tokens)


def _turns(messages: Sequence[Message]) -> list[range]:
    """Return the whole turns before the last one, each from a message of the user to the next; what is before the first
    belongs to it."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    starts = [0, *users[1:]]
    return [range(start, end) for start, end in pairwise(starts)] if users else []


def _rounds(messages: Sequence[Message]) -> list[range]:
    """Return the rounds of the last turn but the latest one: each message of the model with the results of its
    calls."""
    last = max((index for index, message in enumerate(messages) if message.role == "user"), default=-1)
    starts = [index for index in range(last + 1, len(messages)) if messages[index].role != "tool"]
    return [range(start, end) for start, end in pairwise(starts)]


def _without(messages: Sequence[Message], dropped: Sequence[range]) -> Excerpt:
    left_out = {index for group in dropped for index in group if messages[index].role != "system"}
    kept = tuple(message for index, message in enumerate(messages) if index not in left_out)
    return Excerpt(kept, len(left_out))
