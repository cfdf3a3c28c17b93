"""What is installed: every package but the demo's training code, and every file that is read at run time."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
NOT_INSTALLED = "edge.demo.training"
PACKAGES = {
    ".".join(path.parent.relative_to(ROOT).parts)
    for name in ("edge", "convert", "runtime")
    for path in (ROOT / name).rglob("__init__.py")
}
MODULES = [
    path for package in sorted(SETUPTOOLS["packages"]) for path in ROOT.joinpath(*package.split(".")).glob("*.py")
]


def test_every_package_is_installed_but_the_training_code():
    assert set(SETUPTOOLS["packages"]) == PACKAGES - {NOT_INSTALLED}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_installed_module_imports_the_training_code(path):
    package = path.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            base = base if node.level else node.module
            found = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        assert not [name for name in found if f"{name}.".startswith((f"{NOT_INSTALLED}.", "benchmarks.", "tests."))]


def test_every_data_file_is_installed():
    for package, patterns in SETUPTOOLS["package-data"].items():
        installed = {path for pattern in patterns for path in (ROOT / package).glob(pattern)}
        data = {path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
        assert data <= installed
