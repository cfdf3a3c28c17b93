"""docs/architecture.md lists every file with the first sentence of its docstring."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
HEADING = "## Files"
INTRODUCTION = "Each line is the first sentence of the file; `python -m tests.test_architecture` writes them anew.\n"


def sentence(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[a-z)`\d])\. (?=[A-Z`\[])", first)[0].removesuffix(".").removesuffix(":")


def listing():
    """The files, by folder."""
    lines = [INTRODUCTION]
    for package in ("edge", "convert", "runtime"):
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            relative = folder.relative_to(ROOT).as_posix()
            lines.append(f"### {relative}/\n\n{sentence(folder / '__init__.py')}.\n")
            files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("__"))
            lines += [f"- `{path.name}`: {sentence(path)}" for path in files if path.name != "version.py"]
            lines.append("")
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def test_every_file_is_listed_as_it_describes_itself():
    before, _, listed = PAGE.read_text(encoding="utf-8").partition(f"{HEADING}\n\n")
    assert before
    assert listed == listing(), "python -m tests.test_architecture"


def test_every_file_describes_itself_in_a_line():
    for package in ("edge", "convert", "runtime"):
        for path in (ROOT / package).rglob("*.py"):
            assert path.name == "version.py" or 10 < len(sentence(path)) < 140, path


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    PAGE.write_text(f"{head}{HEADING}\n\n{listing()}", encoding="utf-8")
