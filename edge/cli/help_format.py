"""The format of `--help`: each flag's default in one style, and examples on lines of their own."""

import argparse
from textwrap import fill


class HelpFormatter(argparse.HelpFormatter):
    """A formatter that adds "(default: …)" to flags with a value, and keeps indented lines as they are.

    The help text of a flag without a default value states what happens without it, in the same form.
    """

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        takes_value = action.option_strings and action.nargs != 0
        if takes_value and action.default not in (None, "", [], argparse.SUPPRESS) and "(default: " not in text:
            text += " (default: %(default)s)"
        return text

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(
            paragraph
            if paragraph.startswith("    ")
            else fill(
                " ".join(paragraph.split()),
                width,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
            for paragraph in paragraphs
        )
