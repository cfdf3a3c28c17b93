"""Number types for argparse: an invalid value is rejected with the name of its flag."""

from collections.abc import Callable

from runtime.checks import require_integer, require_number
from runtime.errors import RequestError


def integer(flag: str, minimum: int = 1, maximum: int | None = None) -> Callable[[str], int]:
    """Return a `type` for argparse: integers from `minimum` to `maximum`. It raises RequestError."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError as exc:
            raise RequestError(
                f"{flag} must be a whole number, not {text!r}", hint=f"pass a whole number, as in {flag} {minimum}"
            ) from exc
        require_integer(flag, value, minimum, maximum)
        return value

    return parse


def number(flag: str, minimum: float, maximum: float | None) -> Callable[[str], float]:
    """Return a `type` for argparse: numbers from `minimum` to `maximum`. It raises RequestError."""
    allowed = f"{minimum:g} or more" if maximum is None else f"{minimum:g} to {maximum:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError as exc:
            raise RequestError(
                f"{flag} must be a number, not {text!r}", hint=f"pass a number, as in {flag} {minimum:g}"
            ) from exc
        require_number(flag, value)
        if value < minimum or (maximum is not None and value > maximum):
            raise RequestError(f"{flag} is {value:g}", hint=f"it may be {allowed}")
        return value

    return parse
