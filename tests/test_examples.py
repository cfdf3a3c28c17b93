"""The programs of examples/, each run as its first lines say, in a folder that holds ./glm4-int4 and a checkpoint."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.demo import CHECKPOINT

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.fixture
def place(tmp_path, demo_folder) -> Path:
    shutil.copytree(demo_folder.path, tmp_path / "glm4-int4")
    return tmp_path


def run(place: Path, name: str, *arguments: str, typed: str = "") -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        cwd=place,
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_are_eight():
    assert len(NAMES) == 8
    for name in NAMES:
        assert f"examples/{name}.py" in (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").split('"""')[1]
        assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 80


@pytest.mark.slow
def test_chat(place):
    shown = run(place, "chat", typed="Who are you?\nWhat is 6 times 7?\n")
    assert "is ready" in shown
    assert len([line for line in shown.splitlines() if line.strip("> ")]) == 3


@pytest.mark.slow
def test_tools(place):
    shown = run(place, "tools", typed="n\ny\n" * 8)
    assert "> What time is it?" in shown
    assert shown.count("\n") >= 4


@pytest.mark.slow
def test_strict_answers(place):
    first, day, *rest = run(place, "strict_answers").splitlines()
    assert first in ("yes", "no", "unclear")
    assert len(day) == 10
    assert rest


@pytest.mark.slow
def test_async_chat(place):
    shown = run(place, "async_chat")
    assert shown.count("> ") == 3
    assert "> How is the weather in Berlin?\n" in shown


@pytest.mark.slow
def test_server_client(place):
    first, *answer = run(place, "server_client").splitlines()
    assert "glm4-int4 at http://127.0.0.1:" in first
    assert "".join(answer)


@pytest.mark.slow
def test_batch(place):
    questions = ["Who are you?", "What is 6 times 7?", "What is 1 plus 2?", "你是谁?", "Good morning!"]
    (place / "questions.txt").write_text("\n\n".join(questions), encoding="utf-8")
    run(place, "batch")
    answers = [json.loads(line) for line in (place / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [answer["question"] for answer in answers] == questions
    assert all(answer["answer"] for answer in answers)
    assert {answer["finish_reason"] for answer in answers} == {"stop"}


@pytest.mark.slow
def test_convert_with_progress(tmp_path):
    shutil.copytree(CHECKPOINT, tmp_path / "GLM-4-9B-0414")
    assert "glm4-int4" in run(tmp_path, "convert_with_progress")
    assert (tmp_path / "glm4-int4" / "edge.json").is_file()


WINDOW = """
import runpy, sys, threading
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

sys.argv = ["qt_window.py", "./glm4-int4"]
application = QApplication(sys.argv)  # the program takes this one
QApplication.exec, ticks = lambda *_: None, []
import importlib.util
spec = importlib.util.spec_from_file_location("qt_window", EXAMPLE)
window_module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(window_module)
import edge

with edge.Chat("./glm4-int4") as chat:
    window = window_module.Window(chat)
    window.show()
    window.entry.setText("Who are you?")
    window.send()
    ticker = QTimer()
    ticker.timeout.connect(lambda: ticks.append(1))
    ticker.start(5)
    while not window.entry.isEnabled():
        application.processEvents()
    shown = window.shown.toPlainText()
    window.entry.setText("Tell me a story.")
    window.send()
    window.close()  # while the model replies
print(shown)
print(len(ticks) > 0)
"""


@pytest.mark.slow
def test_qt_window(place):
    pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
    script = place / "drive.py"
    script.write_text(f"EXAMPLE = {str(EXAMPLES / 'qt_window.py')!r}\n{WINDOW}")
    done = subprocess.run(
        [sys.executable, script],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "QT_QPA_PLATFORM": "offscreen"},
    )
    assert done.returncode == 0, done.stderr
    assert "> Who are you?" in done.stdout
    assert done.stdout.splitlines()[-1] == "True"
