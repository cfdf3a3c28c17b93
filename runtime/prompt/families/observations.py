"""Observations of the built-in tool simple_browser: one result is several messages, each with a line of metadata.

Upstream (composite_demo/browser/src/browser.ts of THUDM/GLM-4) shows a list of pages, or a page that was opened, as
`browser_result`, each page that was clicked as `quote_result [7†source]`, and a failure as `system_error`. A result's
text has all of them, each after its line of metadata, so that it is one text wherever a chat is stored or sent.
"""

import re
from collections.abc import Iterable, Iterator

BROWSER = "simple_browser"
BROWSER_RESULT = "browser_result"
SYSTEM_ERROR = "system_error"
_METADATA = re.compile(r"^(?:browser_result|system_error|quote_result \[\d{1,6}†source\])$", re.MULTILINE)

Observation = tuple[str, str]
"""The metadata and the text."""


def quote_result(number: int) -> str:
    """Return the metadata of a page that an answer cites as 【number†source】."""
    return f"quote_result [{number}†source]"


def join_observations(observations: Iterable[Observation]) -> str:
    """Return the text of a result. A line of a document that looks like metadata gets a blank before it."""
    return "\n".join(f"{metadata}\n{_METADATA.sub(_indented, text)}" for metadata, text in observations)


def _indented(match: re.Match[str]) -> str:
    return f" {match[0]}"


def split_observations(content: str) -> Iterator[Observation]:
    """Yield the observations of a result's text. What is before the first metadata, or all of it, has none."""
    metadata, begin = "", 0
    for match in _METADATA.finditer(content):
        if match.start() > begin:
            yield metadata, content[begin : match.start() - 1]
        metadata, begin = match[0], match.end() + 1
    if metadata or content:
        yield metadata, content[begin:]
