"""Errors and help texts name commands and flags that exist."""

import argparse
import ast
import re
from pathlib import Path

from edge.cli import parser

ROOT = Path(__file__).resolve().parents[1]
FOREIGN = {  # flags of other programs
    "--collect-all",
    "--disable-pip-version-check",
    "--find-links",
    "--force-reinstall",
    "--isolated",
    "--no-index",
    "--python",
    "--task",
    "--tool-call-parser",
}
COMMAND = re.compile(r"(?:`|^|: |hint: )edge ([a-z-]+)")
FLAG = re.compile(r"(?<![\w`-])--[a-z][a-z-]+")


def messages():
    """The strings of our code that a person may read: those with a blank, which are no docstrings."""
    for package in ("edge", "convert", "runtime"):
        for path in (ROOT / package).rglob("*.py"):
            if "training" in path.parts:
                continue
            code = ast.parse(path.read_text(encoding="utf-8"))
            documented = [node.value for node in ast.walk(code) if isinstance(node, ast.Expr)]
            for node in ast.walk(code):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documented:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def test_their_commands_and_flags_exist(sources):
    (verbs,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    flags = {flag for verb in verbs.choices.values() for action in verb._actions for flag in action.option_strings}
    wrong, commands = [], 0
    for place, text in messages():
        named = COMMAND.findall(text)
        commands += len(named)
        wrong += [f"{place}: edge {verb}" for verb in named if verb not in verbs.choices]
        wrong += [f"{place}: {flag}" for flag in FLAG.findall(text) if " " in text and flag not in flags | FOREIGN]
    assert wrong == []
    assert commands > 20


def test_they_name_no_page_that_an_installed_copy_lacks(sources):
    assert [place for place, text in messages() if re.search(r"\bdocs/|README", text) and " " in text] == []
