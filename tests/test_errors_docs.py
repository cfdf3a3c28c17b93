"""docs/errors.md has every error with its docstring and its status, and no message that the sources do not have.

The first, second and last column of its table are written by `python -m tests.test_errors_docs`, the cure by hand.
"""

import ast
import re
from pathlib import Path

from runtime import errors
from runtime.errors import EdgeError, PromptTooLong

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
HEAD = "| error | when it occurs | what to do | HTTP |\n|---|---|---|---|\n"


def classes(base: type[EdgeError] = EdgeError) -> list[type[EdgeError]]:
    """The errors below `base`, each followed by those below it."""
    return [found for child in base.__subclasses__() if child.__module__ == errors.__name__
            for found in (child, *classes(child))]  # fmt: skip


def first_sentence(error: type[EdgeError]) -> str:
    text = " ".join((error.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"\. (?=[A-Z])", text)[0].removesuffix(".")


def status(error: type[EdgeError]) -> int:
    from edge.server.errors import to_api_error

    return to_api_error(PromptTooLong(1, 1) if error is PromptTooLong else error("message")).status


def table(page: str) -> str:
    """The table of errors, with the page's own third column."""
    cures = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \| \d+ \|$", page, re.MULTILINE))
    rows = [
        f"| `{error.__name__}` | {first_sentence(error)} | {cures.get(error.__name__, '?')} | {status(error)} |"
        for error in classes()
    ]
    return HEAD + "\n".join(rows) + "\n"


def test_every_error_is_in_the_table_as_it_describes_itself():
    page = PAGE.read_text(encoding="utf-8")
    assert table(page) in page, "python -m tests.test_errors_docs"
    assert "| ? |" not in page


def strings() -> str:
    """All string constants of the sources, and the constant parts of f-strings, a line each."""
    paths = [path for package in ("edge", "convert", "runtime") for path in sorted((ROOT / package).rglob("*.py"))]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_every_message_of_the_page_is_one_of_the_sources(sources):
    """The parts of a message between its variables, which the page writes in capitals or as …."""
    known = strings()
    messages = re.findall(r"^\| `([^`|]+)` \| [^|]+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(messages) >= 12
    for message in messages:
        for part in re.split(r"\b[A-Z]{2,}\b|…", message):
            assert part.strip(" '\"./:") in known, message


if __name__ == "__main__":
    before, _, after = PAGE.read_text(encoding="utf-8").partition(HEAD)
    after = after[after.index("\n\n") + 1 :]
    PAGE.write_text(before + table(PAGE.read_text(encoding="utf-8")) + after, encoding="utf-8")
