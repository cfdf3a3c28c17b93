"""The ten guesses where strangers type them: a notebook, an event loop, a Qt window, a folder that holds convert.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.demo import CHECKPOINT

ROOT = Path(__file__).resolve().parents[1]
GUESSES = (Path(__file__).parent / "ten_guesses.py").read_text(encoding="utf-8")
DONE = "all ten work"


@pytest.fixture
def place(tmp_path) -> Path:
    shutil.copytree(CHECKPOINT, tmp_path / "GLM-4-9B-0414")
    return tmp_path


def run(place: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        capture_output=True,
        encoding="utf-8",
        timeout=400,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"} | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_script(place):
    (place / "script.py").write_text(f"{GUESSES}\nimport asyncio\nasyncio.run(talk())\nprint({DONE!r})\n")
    assert DONE in run(place, "script.py")


@pytest.mark.slow
def test_an_event_loop(place):
    """All of it inside a coroutine, the blocking calls too."""
    body = "\n".join(f"    {line}" if line else "" for line in GUESSES.splitlines()[5:])
    program = (
        f"import asyncio\n\nasync def main():\n{body}\n    await talk()\n    print({DONE!r})\n\nasyncio.run(main())\n"
    )
    (place / "loop.py").write_text(program)
    assert DONE in run(place, "loop.py")


@pytest.mark.slow
def test_a_notebook(place):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbconvert")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(GUESSES), nbformat.v4.new_code_cell(f"await talk()\nprint({DONE!r})")]
    )
    nbformat.write(notebook, place / "guesses.ipynb")
    run(
        place,
        *("-W", "ignore", "-m", "nbconvert", "--to", "notebook", "--execute", "--output", "done", "guesses.ipynb"),
        JUPYTER_DATA_DIR=str(place / "jupyter"),
        IPYTHONDIR=str(place / "ipython"),
    )
    assert DONE in (place / "done.ipynb").read_text(encoding="utf-8")


WINDOW = """
import asyncio, sys
from threading import Thread
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QLabel

application = QApplication([])
label = QLabel("…")
label.show()
failed = []

def work():
    try:
        exec(compile(GUESSES, "guesses", "exec"), names := {})
        asyncio.run(names["talk"]())
    except BaseException as exc:
        failed.append(exc)

thread = Thread(target=work)
thread.start()
ticks = 0
while thread.is_alive():
    application.processEvents()
    thread.join(0.005)
    ticks += 1
label.setText("done")
if failed:
    raise failed[0]
print(DONE if ticks > 20 else ticks)
"""


@pytest.mark.slow
def test_a_qt_window(place):
    pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
    (place / "window.py").write_text(f"GUESSES = {GUESSES!r}\nDONE = {DONE!r}\n{WINDOW}", encoding="utf-8")
    assert DONE in run(place, "window.py", QT_QPA_PLATFORM="offscreen")


@pytest.mark.slow
def test_a_folder_that_holds_convert_py(place):
    """`edge.convert` needs the package that the file hides: -P, as the error says, is the documented way."""
    (place / "convert.py").write_text("raise RuntimeError('not ours')\n")
    program = f"{GUESSES}\nimport asyncio\nasyncio.run(talk())\nprint({DONE!r})\n"
    assert DONE in run(place, "-P", "-c", program)
    chat_only = "import edge\nwith edge.Chat('./glm4-int4') as chat: print(chat.send('Who are you?'))"
    assert run(place, "-c", chat_only).strip()


def test_without_the_flag_the_error_names_the_file_and_the_flag(place):
    (place / "convert.py").write_text("raise RuntimeError('not ours')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import edge; edge.convert('./GLM-4-9B-0414', './glm4-int4')"],
        cwd=place,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError:")
    assert "convert.py" in last
    assert "-P" in last
