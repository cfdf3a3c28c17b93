"""A message with documents, in the layout of GLM-4's own demo for long documents.

Upstream's composite_demo (THUDM/GLM-4, composite_demo/src/conversation.py and main.py) puts each file before the
question as "[File Name]", its name, "[File Content]" and its text, with blank lines between files, and after three line
ends "N files uploaded." Documents that fit go in whole. Of the others, the passages that match the question go in, each
after its number and its place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..events import Citation
from .document import Document
from .search import Embed, PassageIndex
from .split import Passage, split

_FILE = "[File Name]\n{name}\n[File Content]\n{content}"
_MESSAGE = "{files}\n\n\n{count} files uploaded.\n{question}"
_MATCHES = (
    "These passages of the file match the question. Cite them by their numbers, such as [{number}].\n\n{passages}"
)
_BEGINNING = "No passage of the file matches the question. It begins:\n\n{passages}"
PASSAGE_CHARACTERS = 1000
MAX_PASSAGES = 12
_AROUND = 40  # tokens around the passages of a file
_PER_TOKEN = 12  # characters; a text with more of them for each token of the room is not counted: it does not fit

CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Attachment:
    """The content of a message with documents, and what it contains of them."""

    content: str
    citations: tuple[Citation, ...]


def attach(
    question: str,
    documents: Sequence[Document],
    *,
    room: int,
    count_tokens: CountTokens,
    embed: Embed | None = None,
) -> Attachment:
    """Return the content of a message that asks the question about the documents, of at most about `room` tokens
    besides the question.

    All go in whole, if they fit. Otherwise the smallest do that fit half of the room together, and passages of the
    others fill the rest.
    """
    files = [_FILE.format(name=one.name, content=one.text) for one in documents]
    sizes = [_count(text, room, count_tokens) for text in files]
    whole, used = set(range(len(files))), sum(sizes)
    if used > room:
        whole, used = set(), 0
        for index in sorted(range(len(files)), key=lambda i: sizes[i]):
            if used + sizes[index] <= room // 2:
                whole.add(index)
                used += sizes[index]
    citations = [
        Citation(documents[i].name, part.place_of(0, part.text.count("\n") + 1), part.text)
        for i in sorted(whole)
        for part in documents[i].sections
    ]
    searched = [index for index in range(len(files)) if index not in whole]
    if searched:
        left = room - used - _AROUND * len(searched)
        passages, matching = _search(question, [documents[i] for i in searched], left, count_tokens, embed)
        number = 1
        for index, own in zip(searched, passages, strict=True):
            cited = [Citation(documents[index].name, one.place, one.text, n) for n, one in enumerate(own, number)]
            files[index] = _FILE.format(name=documents[index].name, content=_content(cited, matching))
            citations += cited
            number += len(own)
    content = _MESSAGE.format(files="\n\n".join(files), count=len(files), question=question)
    return Attachment(content, tuple(citations))


def has_documents(content: str) -> bool:
    """Return whether a message's content has documents, in the layout of `attach`."""
    return content.startswith(_FILE.partition("{")[0])


def _content(cited: Sequence[Citation], matching: bool) -> str:
    if not cited:
        return "(nothing of it matches the question)" if matching else "(it does not fit)"
    passages = "\n\n".join(f"[{one.number}] {one.place}".rstrip() + f"\n{one.text}" for one in cited)
    return (_MATCHES if matching else _BEGINNING).format(number=cited[0].number, passages=passages)


def _search(
    question: str, documents: Sequence[Document], room: int, count_tokens: CountTokens, embed: Embed | None
) -> tuple[list[list[Passage]], bool]:
    """Return passages of each document that fit the room together, in the order of the document, and whether they match
    the question: if none does, the documents' beginnings are returned."""
    found = [(i, passage) for i, one in enumerate(documents) for passage in split(one, PASSAGE_CHARACTERS)]
    index = PassageIndex([passage.text for _, passage in found], embed)
    ranked = index.search(question, MAX_PASSAGES)
    matching = bool(ranked)
    chosen = []
    for position in ranked or _beginnings([i for i, _ in found]):
        size = _count(found[position][1].text, room, count_tokens) + _AROUND // 2
        if size <= room:
            chosen.append(position)
            room -= size
    passages: list[list[Passage]] = [[] for _ in documents]
    for position in sorted(chosen):
        document, passage = found[position]
        passages[document].append(passage)
    return passages, matching


def _beginnings(documents: Sequence[int]) -> list[int]:
    """Return the positions of the first passages, of each document as many. `documents` has that of each passage."""
    rank: list[tuple[int, int]] = []
    seen: dict[int, int] = {}
    for position, document in enumerate(documents):
        rank.append((seen.setdefault(document, 0), position))
        seen[document] += 1
    return [position for _, position in sorted(rank)[:MAX_PASSAGES]]


def _count(text: str, room: int, count_tokens: CountTokens) -> int:
    """Return the number of tokens; of a text that cannot fit, a number above the room."""
    return len(text) if len(text) > max(room, 0) * _PER_TOKEN else count_tokens(text)
