"""Questions of the command line that need a yes: before a large download, and before something is removed."""

import sys

from runtime.errors import RequestError

from .output import print_text
from .streams import is_terminal


def confirm(question: str, *, default: bool = False) -> bool:
    """Ask at the terminal. The end of the input means no. Raises RequestError without a terminal."""
    if not can_ask():
        raise RequestError(
            f"{question.rstrip('?')}: there is no terminal to ask", hint="add --yes to go on without a question"
        )
    choices = "[Y/n]" if default else "[y/N]"
    while True:
        print_text(f"{question} {choices} ", end="", flush=True)
        try:
            answer = input().strip().lower()
        except EOFError:
            print()
            return False
        if answer in ("", "y", "yes", "n", "no"):
            return default if not answer else answer.startswith("y")
        print("Please type y or n.")


def can_ask() -> bool:
    """Return whether a person can read a question and answer it."""
    return is_terminal(sys.stdin) and is_terminal(sys.stdout)
