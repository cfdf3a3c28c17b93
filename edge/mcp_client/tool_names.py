"""The names by which a model calls the tools of MCP servers."""

import re
from collections.abc import Collection, Iterable
from itertools import count

MAX_CHARACTERS = 64  # of a name, as in OpenAI's API


def callable_name(name: str) -> str:
    """Return a name of letters, digits and `_`, `-`, `.`, with `_` in the place of others."""
    return re.sub(r"[^\w.-]", "_", name)[:MAX_CHARACTERS] or "tool"


def unique_names(tools: Iterable[tuple[str, str]], taken: Collection[str]) -> list[str]:
    """Return a name for each pair of a server and one of its tools. Where two tools have the same name, or it is
    `taken`, each is prefixed with its server; those that still clash are numbered."""
    pairs = [(callable_name(server), callable_name(tool)) for server, tool in tools]
    short = [tool for _, tool in pairs]
    used, names = set(taken), []
    for server, tool in pairs:
        name = tool if short.count(tool) == 1 and tool not in taken else callable_name(f"{server}_{tool}")
        names.append(_numbered(name, used))
        used.add(names[-1])
    return names


def _numbered(name: str, used: Collection[str]) -> str:
    if name not in used:
        return name
    numbers = (f"{name[: MAX_CHARACTERS - len(f'_{number}')]}_{number}" for number in count(2))
    return next(candidate for candidate in numbers if candidate not in used)
