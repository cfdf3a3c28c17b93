"""docs/cli.md has each command's description, example and arguments as the parser has them.

They are written there by `python -m tests.test_cli_docs`, between `<!-- edge COMMAND -->` and `<!-- end -->`; the text
around them is written by hand.
"""

import re
from argparse import SUPPRESS
from pathlib import Path

from edge.cli import parser

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
_BLOCK = re.compile(r"(<!-- edge (\S+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def commands():
    (action,) = parser()._subparsers._group_actions
    return action.choices


def described(command):
    """The part of the page that comes from a command's parser, as Markdown."""
    examples = "\n".join(re.findall(r"^ {4}.+$", command.epilog, re.MULTILINE))
    rows = [row(action) for action in command._actions if action.dest != "help" and action.help != SUPPRESS]
    table = "\n".join(("| argument | what it is | default |", "|---|---|---|", *rows))
    return f"\n{command.description}\n\n{examples}\n\n{table}\n\n"


def row(action):
    """An argument's line of the table."""
    text, _, default = (action.help % vars(action)).removesuffix(")").partition(" (default: ")
    choices = f"{{{','.join(action.choices)}}}" if action.choices else ""
    if not action.option_strings:
        name, default = choices or action.dest, "none" if action.nargs in ("?", "*") else "required"
    else:
        (name,) = action.option_strings
        value = action.metavar or choices or action.dest.upper()
        if action.nargs != 0:
            name += f" [{value}]" if action.nargs == "?" else f" {value}"
        default = default or ("off" if action.nargs == 0 else "required" if action.required else str(action.default))
    return f"| `{name}` | {text} | {default} |"


def written(page: str) -> str:
    """The page with every block as its parser has it."""
    return _BLOCK.sub(lambda block: block[1] + described(commands()[block[2]]) + block[3], page)


def test_the_page_is_as_the_parsers():
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "python -m tests.test_cli_docs"


def test_the_page_has_every_command_once():
    named = [name for _, name, _ in _BLOCK.findall(PAGE.read_text(encoding="utf-8"))]
    assert named == list(commands())


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
