"""The engine of docs/contributing.md works as it stands there, added by a package of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOC = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")


@pytest.fixture
def parrot(tmp_path):
    """A folder with the package, as pip would install it."""
    (code,) = re.findall(r'```python\n("""parrot\.py"""\n.*?)```', DOC, re.DOTALL)
    (entry,) = re.findall(r"^(parrot = .*)$", DOC, re.MULTILINE)
    (tmp_path / "parrot.py").write_text(code, encoding="utf-8")
    information = tmp_path / "parrot-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[edge.backends]\n{entry.replace(chr(34), '')}\n")
    return tmp_path


def run(parrot, *args, **options):
    return subprocess.run(
        [sys.executable, "-m", "edge", *args],
        env=os.environ | {"PYTHONPATH": str(parrot)},
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        **options,
    )


@pytest.mark.slow
def test_the_smallest_engine_chats(parrot, bare_folder):
    done = run(parrot, "chat", str(bare_folder.path), "--device", "parrot", input="Polly wants a cracker.")
    assert (done.returncode, done.stdout.strip()) == (0, "Polly wants a cracker."), done.stderr


def test_engines_that_were_added_are_listed_with_ours(parrot, bare_folder):
    done = run(parrot, "chat", str(bare_folder.path), "--device", "cockatoo", input="Hello.")
    assert done.returncode == 1
    assert "PARROT" in done.stderr


def test_an_engine_that_cannot_be_imported_is_named(parrot, bare_folder):
    (parrot / "parrot.py").write_text("import no_such_module")
    done = run(parrot, "chat", str(bare_folder.path), "--device", "parrot", input="Hello.")
    assert done.returncode == 1
    assert "the engine parrot of parrot:Parrot cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:runtime|convert|edge|tests)/[\w/.]+\.py)`", DOC))))
def test_files_that_the_page_names_are_there(sources, path):
    assert "NAME" in path or (sources / path).is_file()
