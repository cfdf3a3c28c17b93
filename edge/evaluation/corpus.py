"""The built-in corpus of `edge eval`: English, Chinese, code, and chats with tool calls.

The texts were written for this purpose. They are in no other file, and no recipe is calibrated on them.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from convert.samples import Sample, parse_sample, read_json_lines

from .test_sets import DATA

_TEXTS, _CHATS, _QUESTIONS = (DATA / "general" / f"{name}.jsonl" for name in ("texts", "chats", "questions"))


def built_in_samples(chats: bool = True) -> list[Sample]:
    """Return the built-in texts, and the chats as well unless the model has no format for them."""
    return [*_read(_TEXTS), *(_read(_CHATS) if chats else ())]


def questions() -> list[Sample]:
    """Return prompts for greedy replies: questions, and each chat up to its first user message."""
    return [*_read(_QUESTIONS), *map(_opening, _read(_CHATS))]


def filler_paragraphs(seed: int = 7) -> Iterator[str]:
    """Yield paragraphs of all the texts without end, to fill a context of any length.

    They repeat in another order after some 3,000 tokens. Over so long a text the divergence of two models is
    meaningful; the perplexity of either is not.
    """
    texts = (sample.text for sample in _read(_TEXTS))
    paragraphs = [part.strip() for text in texts for part in text.split("\n\n") if part.strip()]
    draw = random.Random(seed)
    while True:
        yield from (part + "\n\n" for part in draw.sample(paragraphs, len(paragraphs)))


def _read(path: Path) -> Iterator[Sample]:
    return (parse_sample(data["name"], data) for _, data in read_json_lines(path))


def _opening(chat: Sample) -> Sample:
    first = [message.role for message in chat.messages].index("user")
    return replace(chat, messages=chat.messages[: first + 1])
