"""A user's message with documents: they are read, and as much of them as fits the context goes into the message."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..cancellation import Cancellation
from ..errors import PromptTooLong, RequestError
from ..events import Documents
from ..messages import Message
from .attachment import attach
from .reader import DocumentLike, DocumentReader
from .search import Embed

_REPLY_SHARE = 4  # a quarter of the context is the reply's, and no more than
_REPLY_TOKENS = 1024


def add_documents(
    messages: Sequence[Message],
    documents: Sequence[DocumentLike],
    *,
    context: int,
    reply_tokens: int | None,
    count_tokens: Callable[[Sequence[Message] | str], int],
    embed: Embed | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[Sequence[Message], Documents]:
    """Return the messages, the last of the user's with the documents, and the event with what it contains of them.

    `context` is the most tokens of a prompt, of which `reply_tokens` stay free; `count_tokens` counts those of a prompt
    of messages, or of a text. Raises RequestError for a document that cannot be read.
    """
    with DocumentReader(cancellation=cancellation) as reader:
        read = [reader.read(one) for one in documents]
    last = max((index for index, one in enumerate(messages) if one.role == "user"), default=None)
    if last is None:
        raise RequestError("there is no message of the user for the documents", hint="send a question with them")
    reply = min(context // _REPLY_SHARE, reply_tokens or _REPLY_TOKENS)
    room = context - reply - count_tokens(messages)
    found = attach(messages[last].content, read, room=room, count_tokens=_bounded(count_tokens, context), embed=embed)
    notes = [f"{one.name}: {note}" for one in read for note in one.notes]
    cited = {citation.document for citation in found.citations}
    notes += [f"{one.name}: no part of it is in the message" for one in read if one.name not in cited]
    changed = (*messages[:last], replace(messages[last], content=found.content), *messages[last + 1 :])
    return changed, Documents(found.content, found.citations, tuple(notes))


def _bounded(count_tokens: Callable[[str], int], context: int) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text; of one that is too long for the engine, more than fit."""

    def count(text: str) -> int:
        try:
            return count_tokens(text)
        except PromptTooLong:
            return context + 1

    return count
