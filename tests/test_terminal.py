"""`edge` before a person: what is typed, pasted and interrupted; how wide a table may be."""

import json
import re
import sys
from pathlib import Path

import pytest

from edge.catalogue import CATALOGUE

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX's", allow_module_level=True)

readline = pytest.importorskip("readline")

from .terminal import terminal  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
EDGE = (sys.executable, "-m", "edge")
PROMPT = "\n>"


@pytest.fixture
def talk(demo_folder):
    with terminal([*EDGE, "chat", str(demo_folder.path), "--device", "CPU"], cwd=ROOT) as opened:
        opened.wait_for(PROMPT)
        yield opened


def asked(talk, tmp_path):
    """What the chat holds of the user."""
    talk.type(f"/save {tmp_path}/chat.json\n")
    talk.wait_for(PROMPT)
    said = json.loads((tmp_path / "chat.json").read_text())["messages"]
    return [message["content"] for message in said if message["role"] == "user"]


def test_a_pasted_text_is_one_message(talk, tmp_path):
    talk.type("First,\n\n  second,\nWho are you?\n")
    talk.wait_for(PROMPT)
    talk.type("b\n")
    talk.wait_for(PROMPT)
    assert asked(talk, tmp_path) == ["First,\n\n  second,\nWho are you?", "b"]


@pytest.mark.skipif("GNU" not in str(readline.__doc__), reason="libedit knows no brackets")
def test_a_text_in_brackets_is_one_message(talk, tmp_path):
    """As a terminal sends what is pasted where readline asks for it."""
    talk.type("\x1b[200~a\nb\x1b[201~")
    talk.wait_for("b")
    talk.type("\n")
    talk.wait_for(PROMPT)
    assert asked(talk, tmp_path) == ["a\nb"]


def test_a_document_goes_with_the_next_message(talk, tmp_path):
    (tmp_path / "fares.md").write_text("# Fares\n\nA crossing costs 12 crowns.")
    talk.type(f"/file {tmp_path}/nowhere.md\n")
    assert "there is no file" in talk.wait_for(PROMPT)
    talk.type(f"/file {tmp_path}/fares.md\n")
    assert "fares.md, 36 characters, goes with the next message." in talk.wait_for(PROMPT)
    talk.type("Who are you?\n")
    assert "fares.md: read as a whole" in talk.wait_for(PROMPT)
    talk.type("And now?\n")
    talk.wait_for(PROMPT)
    first, second = asked(talk, tmp_path)
    assert first.endswith("A crossing costs 12 crowns.\n\n\n1 files uploaded.\nWho are you?")
    assert second == "And now?"


def test_a_command_that_is_typed_ahead_is_one(talk):
    talk.type("Who are you?\n/exit\n")
    assert talk.end() == 0
    assert "glm4-edge" in talk.shown


def test_ctrl_c_clears_the_line_and_keeps_the_chat(talk, tmp_path):
    talk.type("Who are you?\n")
    assert "glm4-edge" in talk.wait_for(PROMPT)
    for _ in range(2):
        talk.type("nonsense")
        talk.wait_for("nonsense")
        talk.interrupt()
        assert "/exit" in talk.wait_for(PROMPT)
    assert asked(talk, tmp_path) == ["Who are you?"]
    for _ in range(2):
        talk.interrupt()
    assert talk.end() == 0
    assert "Traceback" not in talk.shown


def test_ctrl_d_leaves(talk):
    talk.type("\x04")
    assert talk.end() == 0


@pytest.mark.parametrize(
    ("environment", "takes"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=str
)
def test_escapes_are_for_terminals_that_take_them(environment, takes):
    code = "import sys; from edge.cli import streams; print('takes', streams.supports_ansi(sys.stdout), flush=True)"
    with terminal([sys.executable, "-c", code], environment=environment, cwd=ROOT) as opened:
        opened.wait_for(f"takes {takes}")


TABLES = {
    "models": (("models",), list(CATALOGUE)),
    "recipes": (("recipes",), ["int4-mixed", "int4-small", "stored"]),
    "devices": (("devices",), ["CPU"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("columns", [20, 40, 80, 120])
@pytest.mark.parametrize(("verb", "names"), TABLES.values(), ids=TABLES.keys())
def test_names_are_whole_however_narrow_the_terminal(verb, names, columns):
    with terminal([*EDGE, *verb], columns=columns, cwd=ROOT) as opened:
        assert opened.end() == 0
        assert all(re.search(rf"^{re.escape(name)}\b", opened.shown, re.MULTILINE) for name in names)
        assert "…" not in opened.shown.replace("glm-4-…", "")
    if columns == 80:
        assert all(len(line) <= 80 for line in opened.shown.splitlines() if line.startswith(("GLM-", "int4")))
