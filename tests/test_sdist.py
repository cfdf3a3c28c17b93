"""The source distribution has all that the tests need."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ["benchmarks", "convert", "docs", "edge", "runtime", "tests"]
FOLDERS += ["examples"] if (ROOT / "examples").is_dir() else []
FILES = ["CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "README.zh.md", "pyproject.toml"]
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.py[co]", ".DS_Store")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the source tree: a build writes into it."""
    copied = tmp_path_factory.mktemp("tree")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copied / name, ignore=LEFT_OUT)
    for name in FILES:
        shutil.copy(ROOT / name, copied)
    return copied


@pytest.mark.slow
def test_the_sdist_has_every_file(tree, tmp_path):
    wanted = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        found = {name.partition("/")[2] for name in opened.getnames()}
    assert wanted - found == set()
    assert {"tests/conftest.py", "tests/templates/z1.jinja", "tests/environments/ipex.sh"} <= found
