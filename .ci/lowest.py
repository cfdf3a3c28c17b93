"""Print pip constraints: the lowest versions of the ranges that pyproject.toml declares for the project and extras.

python .ci/lowest.py EXTRA... > constraints.txt
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def version(text: str) -> tuple[int, ...]:
    """Return a version as numbers."""
    return tuple(map(int, text.split(".")))


project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
lowest: dict[str, str] = {}
for requirement in (*project["dependencies"], *(r for e in sys.argv[1:] for r in project["optional-dependencies"][e])):
    if found := re.match(r"([\w.-]+)(?:\[.*\])?>=([\d.]+)", requirement):
        name, bound = found.groups()
        lowest[name] = max(bound, lowest.get(name, "0"), key=version)  # the extras are installed together
for name, bound in lowest.items():
    print(f"{name}=={bound}")
