"""Numbers of the command line. One that is out of range is refused by the name of its flag."""

from collections.abc import Callable

from runtime.checks import require_integer, require_number
from runtime.errors import RequestError


def whole(flag: str, least: int = 1, most: int | None = None) -> Callable[[str], int]:
    """A `type` for argparse: whole numbers from `least` to `most`. It raises RequestError."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError as exc:
            raise RequestError(f"{flag} is {text!r}", hint=f"it must be a whole number, as in {flag} {least}") from exc
        require_integer(flag, value, least, most)
        return value

    return parse


def real(flag: str, least: float, most: float) -> Callable[[str], float]:
    """A `type` for argparse: numbers from `least` to `most`. It raises RequestError."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError as exc:
            raise RequestError(f"{flag} is {text!r}", hint=f"it must be a number, as in {flag} {least:g}") from exc
        require_number(flag, value)
        if not least <= value <= most:
            raise RequestError(f"{flag} is {value:g}", hint=f"it may be {least:g} to {most:g}")
        return value

    return parse
