"""Offline research: a model answers a question with the tools of GLM-Z1-Rumination over local documents.

The tools are search, click, open and finish. An application can replace any of them by a function of its own; models
other than Rumination get them as ordinary tools.

Rumination's chat template has a line for the language of its search terms and one for that of its thoughts, which are
English; they are the only ones that change with the language.
"""

import re
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.chat import Chat
from runtime.errors import RequestError
from runtime.events import Event, Finish
from runtime.model import Model
from runtime.sampling import Sampling
from runtime.tools import Tool

from .documents import DocumentIndex, DocumentPage

ANSWER_NOW = "Now write the answer, and name the sources that you used."
LANGUAGES = {  # as the template, which is Chinese, names them
    "en": "英语",
    "zh": "中文",
    "ar": "阿拉伯语",
    "de": "德语",
    "es": "西班牙语",
    "fr": "法语",
    "id": "印度尼西亚语",
    "it": "意大利语",
    "ja": "日语",
    "ko": "韩语",
    "pt": "葡萄牙语",
    "ru": "俄语",
    "th": "泰语",
    "tr": "土耳其语",
    "vi": "越南语",
}
_LANGUAGE_LINES = ("搜索关键词：", "思考：")  # of search terms, of thoughts


@dataclass(slots=True)
class ResearchSession:
    """The state of a research session: the latest search results, and the pages read so far, in order."""

    documents: DocumentIndex
    results: list[DocumentPage] = field(default_factory=list)
    read_pages: dict[str, DocumentPage] = field(default_factory=dict)

    def search(self, query: str) -> str:
        """Execute a search query and return search results."""
        self.results = self.documents.search(query)
        if not self.results:
            return "No results."
        return "\n\n".join(f"[{i}] {page.name}\n{_snippet(page)}" for i, page in enumerate(self.results))

    def click(self, link_id: int) -> str:
        """Open one of the search results by its number."""
        if not 0 <= link_id < len(self.results):
            raise ValueError(f"the last search has no result {link_id}")
        return self._show(self.results[link_id])

    def open(self, url: str) -> str:
        """Open a document by its address."""
        page = self.documents.open(url)
        if page is None:
            raise ValueError(f"there is no document {url!r}; search for one")
        return self._show(page)

    def finish(self) -> str:
        """Finish the task, when the information needed has been found."""
        return ANSWER_NOW

    def _show(self, page: DocumentPage) -> str:
        self.read_pages[page.address] = page
        return f"{page.name}\n\n{page.text}"


def research(
    model: Model,
    question: str,
    session: ResearchSession,
    *,
    tools: Iterable[Callable[..., Any] | Tool] = (),
    max_rounds: int = 12,
    max_tokens: int | None = None,
    sampling: Sampling | None = None,
    language: str | None = None,
) -> Generator[Event, None, None]:
    """Stream the events of the research, the last one a Finish; `session.read_pages` then has the sources.

    In a `language`, a key of LANGUAGES, Rumination searches and thinks; by default as its template says, in English.

    `tools` replace the session's tools of the same name, and are added otherwise. After `max_rounds` rounds of calls
    the model must answer from the pages it has read. It generates at most `max_tokens` tokens in all.
    """
    if language is not None:
        model = set_language(model, language)
    by_name = {
        tool.name: tool
        for tool in map(Tool.from_function, (session.search, session.click, session.open, session.finish, *tools))
    }
    sampling = sampling or model.sampling
    if max_tokens is not None:
        sampling = replace(sampling, max_new_tokens=max_tokens)
    chat = Chat(model, tools=by_name.values(), max_rounds=max_rounds, sampling=sampling)
    for event in chat.stream(question):
        if not isinstance(event, Finish) or event.reason != "rounds":
            yield event
            continue
        left = None if max_tokens is None else max_tokens - event.usage.completion_tokens
        answer = chat.stream(ANSWER_NOW, tool_choice="none", sampling=replace(sampling, max_new_tokens=left))
        for last in answer:
            yield replace(last, usage=event.usage + last.usage) if isinstance(last, Finish) else last


def set_language(model: Model, language: str) -> Model:
    """Return the model with the lines of its template that name the language of search terms and thoughts changed to
    `language`, a key of LANGUAGES. Both share the engine. Raises RequestError for another language, or if the template
    has no such lines."""
    if language not in LANGUAGES:
        raise RequestError(f"the language {language!r} is not supported", hint=f"choose one of {', '.join(LANGUAGES)}")
    template = model.source.chat_template()
    for line in _LANGUAGE_LINES:
        template, count = re.subn(rf"(?m)^([ \t*-]*{line})[^\s{{}}]+[ \t]*$", rf"\g<1>{LANGUAGES[language]}", template)
        if count != 1:
            raise RequestError(
                f"the chat template of {model.source.manifest.source.name} has no line {line!r} that sets a language",
                hint="GLM-Z1-Rumination's has; with another model, leave out the language and ask in it",
            )
    return model.with_template(template)


def _snippet(page: DocumentPage, characters: int = 200) -> str:
    return " ".join(page.text.split())[:characters]
