"""How the suite runs: its skip budget, signals that its starter ignores, and tests that wait for an environment."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_one(number):
    if number:
        pytest.skip("not here")
"""
MARKED = """
import pytest

@pytest.mark.vllm
def test_vllm():
    pass

@pytest.mark.cuda
def test_cuda():
    pass

def test_everywhere():
    pass
"""
SIGNALS = """
import signal
import subprocess
import sys

def test_signals():
    shown = "import signal; print(signal.getsignal(signal.SIGINT).__name__, signal.getsignal(signal.SIGHUP) == 0)"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True)
    assert done.stdout == "default_int_handler True\\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def run(folder, source, *options, command=()):
    """A suite of one file with our conftest.py; returns its exit status and its output."""
    (folder / "test_it.py").write_text(source)
    markers = "".join(
        f"\n    {name}: an environment" for name in ("clients", "cuda", "ipex", "optimum", "quantized", "vllm")
    )
    (folder / "pytest.ini").write_text(f"[pytest]\nmarkers ={markers}\n")
    done = subprocess.run(
        [*command, sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *options],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("allowed", "status"), [((), 0), (("--max-skips", "2"), 0), (("--max-skips", "1"), 1)])
def test_more_skips_than_allowed_fail(tmp_path, allowed, status):
    returned, output = run(tmp_path, SKIPPED, *allowed)
    assert returned == status, output
    assert ("2 tests were skipped, more than --max-skips 1" in output) is bool(status)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "passed", "deselected"), [((), 1, 2), (("-m", "vllm"), 1, 2), (("-m", "not slow"), 1, 2)]
)
def test_what_needs_an_environment_runs_where_it_is_named(tmp_path, options, passed, deselected):
    status, output = run(tmp_path, MARKED, *options, "-v")
    assert status == 0, output
    assert re.search(f"{passed} passed, {deselected} deselected", output)
    assert ("test_vllm" in output) is ("vllm" in options)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_ignored_signals_are_not_inherited(tmp_path):
    ignoring = ["sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh"]
    status, output = run(tmp_path, SIGNALS, command=ignoring)
    assert status == 0, output
