"""The first line of a call as GLM-4 writes it: nothing but the tool's name."""

from collections.abc import Collection

from .call_syntax import Verdict

BLANKS = 256  # more blanks in a row than this are not part of a call


def read_name(text: str, names: Collection[str], *, at_end: bool) -> tuple[str, str] | Verdict:
    """Split `text` into a tool's name, one of `names`, and what follows its line."""
    line, newline, rest = text.partition("\n")
    name = line.rstrip(" ")
    if len(line) - len(name) > BLANKS:
        return Verdict.NO_CALL
    if newline:
        return (name, rest) if name in names else Verdict.NO_CALL
    if at_end or not any(offered.startswith(name) for offered in names):
        return Verdict.NO_CALL
    return Verdict.UNDECIDED
