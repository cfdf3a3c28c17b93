"""Fitting a conversation to the model's context, as `truncation: auto` asks for: the oldest turns are dropped."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from runtime.errors import PromptTooLong
from runtime.messages import Message
from runtime.model import Model

from ..generation.params import GenerationParams

_ROOM = 8  # a reply without a limit has one part in so many of the context


def fit(params: GenerationParams, model: Model) -> GenerationParams:
    """Return the parameters with as many of the latest messages as fit beside the reply. System messages stay, and so
    does the last message of the user; a call stays with its results."""
    limit = model.backend.max_prompt_tokens
    room = min(params.sampling.max_new_tokens or limit // _ROOM, limit // 2)

    def fits(messages: Sequence[Message]) -> bool:
        try:
            return replace(params, messages=tuple(messages)).count_tokens(model) <= limit - room
        except PromptTooLong:
            return False

    groups = _droppable(params.messages)
    low, high = 0, len(groups)  # the number of groups that are dropped
    while low < high:
        middle = (low + high) // 2
        if fits(_without(params.messages, groups[:middle])):
            high = middle
        else:
            low = middle + 1
    return replace(params, messages=_without(params.messages, groups[:low]))


def _droppable(messages: Sequence[Message]) -> list[range]:
    """Return the groups of messages that can be dropped, the first to go first: whole turns, from one message of the
    user to the next; then, of the last turn, all but the user's message, each call with its results."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    turns = [range(start, end) for start, end in pairwise(users)]
    before = [range(users[0])] if users and users[0] > 0 else []
    last = users[-1] + 1 if users else 0
    starts = [index for index in range(last, len(messages)) if messages[index].role != "tool"]
    rounds = [range(start, end) for start, end in pairwise([*starts, len(messages)])]
    return [*before, *turns, *rounds[:-1]]


def _without(messages: Sequence[Message], groups: Sequence[range]) -> tuple[Message, ...]:
    dropped = {index for group in groups for index in group}
    kept = (message for index, message in enumerate(messages) if index not in dropped or message.role == "system")
    return tuple(kept)
