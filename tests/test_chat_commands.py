"""The commands of `edge chat`, the history of what was typed, and replies in a terminal."""

import os
import stat
import sys
from pathlib import Path

import pytest

from edge.cli import chat_commands
from edge.cli.attachments import Attachments
from edge.cli.chat import print_reply
from edge.cli.chat_commands import COMMANDS, ChatCommands, is_command
from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.messages import Message
from runtime.model import Model

ROOT = Path(__file__).resolve().parents[1]


def beginning(text: str) -> str:
    """The beginning of a text."""
    return text[:1]


@pytest.fixture
def chat(bare_folder):
    with Chat(
        Model(bare_folder, backend=Echo(["one", "two", "three"])), tools=[beginning], system="Be brief."
    ) as opened:
        opened.send("first")
        opened.send("second")
        yield opened


@pytest.fixture
def run(chat, capsys):
    commands = ChatCommands(chat, Attachments())

    def call(text):
        found = commands.run(text)
        return found if found is not None else capsys.readouterr().out

    return call


def test_what_is_a_command():
    assert is_command("/help")
    assert is_command("/system Be kind, in 1/2 of your words.")
    assert is_command("/")
    assert not is_command("/usr/bin/python fails, why?")
    assert not is_command("/help\nme")
    assert not is_command("help")


def test_help_lists_them_all(run):
    out = run("/help")
    assert all(command.usage in out and command.text in out for command in COMMANDS)


def test_an_unknown_command_is_told_with_the_nearest(run, chat):
    before = chat.history
    assert run("/sytem x") == "There is no command /sytem: did you mean /system? /help lists them.\n"
    assert run("/zzz") == "There is no command /zzz: /help lists them.\n"
    assert run("/save") == "Write it as /save FILE.\n"
    assert run("/undo now") == "Write it as /undo.\n"
    assert chat.history == before


def test_system_shows_replaces_and_removes_it(run, chat):
    assert run("/system") == "Be brief.\n"
    assert run("/system Be kind.") == "Be kind.\n"
    assert chat.history[0] == Message("system", "Be kind.")
    assert len(chat.history) == 5
    run("/reset")
    assert chat.history == (Message("system", "Be kind."),)
    assert run('/system ""') == "There is no system message.\n"
    assert chat.history == ()
    assert run("/tokens").startswith("0 of ")


def test_tools_and_tokens(run):
    assert run("/tools") == "beginning: The beginning of a text.\n"
    used, of, limit, tokens, share = run("/tokens").split()
    assert (of, tokens) == ("of", "tokens")
    assert 0 < int(used.replace(",", "")) <= int(limit.replace(",", ""))
    assert share.startswith("(")


@pytest.mark.parametrize(("overflow", "words"), [("drop", "will be left out"), ("refuse", "/reset begins anew")])
def test_a_chat_that_nearly_fills_the_context_says_so_once(bare_folder, overflow, words):
    engine = Echo(["one"] * 3, max_prompt_tokens=400)
    with Chat(Model(bare_folder, backend=engine), overflow=overflow) as chat:
        commands = ChatCommands(chat, Attachments())
        assert commands.describe_context() == ""
        chat.history = [Message("user", "a" * 320)]
        warning = commands.describe_context()
        assert "% of the context: " in warning
        assert words in warning
        assert commands.describe_context() == ""
        chat.reset()
        assert commands.describe_context() == ""
        chat.history = [Message("user", "a" * 320)]
        assert commands.describe_context() == warning


def test_undo_takes_a_turn_back(run, chat):
    assert run("/undo") == "Taken back: second\n"
    assert [message.content for message in chat.history] == ["Be brief.", "first", "one"]
    run("/undo")
    assert run("/undo") == "There is no message yet.\n"
    assert len(chat.history) == 1


def test_regenerate_sends_the_last_message_again(run, chat, capsys):
    message = run("/regenerate")
    assert message == Message("user", "second")
    print_reply(chat, message)
    assert capsys.readouterr().out == "three\n"
    assert [message.content for message in chat.history] == ["Be brief.", "first", "one", "second", "three"]


def test_save_asks_before_it_replaces(run, chat, tmp_path, monkeypatch):
    path = tmp_path / "chat.json"
    run(f"/save {path}")
    before = path.read_bytes()
    asked = []
    run("/undo")
    for answer in (False, True):
        monkeypatch.setattr(chat_commands, "confirm", lambda question, answer=answer: asked.append(question) or answer)
        run(f"/save {path}")
        assert (path.read_bytes() == before) == (not answer)
    assert asked == [f"{path} is there already. Replace it?"] * 2


if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX's", allow_module_level=True)

from .terminal import terminal  # noqa: E402

PROMPT = "\n>"
ECHO = """
import os, sys
from edge.cli import chat, main
from runtime.backends.echo import Echo
from runtime.model import Model

class Fixed(Model):
    def __init__(self, source, **_):
        super().__init__(source, backend=Echo(["**bold** and\\n\\n- a\\n- b\\n"] * 9))

import runtime.chat
runtime.chat.Model = Fixed
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def state(tmp_path):
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


def history(state):
    return Path(state["XDG_STATE_HOME"]) / "glm4-edge" / "chat_history"


@pytest.mark.slow
def test_several_lines_a_kept_history_and_formatted_replies(bare_folder, state):
    command = [sys.executable, "-c", ECHO, "chat", str(bare_folder.path)]
    with terminal(command, environment=state, cwd=ROOT) as opened:
        opened.wait_for(PROMPT)
        opened.type("one\\\r")
        opened.type("two\x1b\rthree\r")
        opened.wait_for("bold and")
        opened.wait_for(" • a")
        opened.wait_for(PROMPT)
        opened.type("/hlep\r")
        opened.wait_for("did you mean /help?")
        opened.wait_for(PROMPT)
        opened.type("/quit\r")
        assert opened.end() == 0
        assert b"\x1b[1mbold" in opened.raw
    kept = history(state)
    assert "+one\n+two\n+three\n" in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.chmod(0o644)
    with terminal([*command, "--plain"], environment=state, cwd=ROOT) as opened:
        opened.wait_for(PROMPT)
        opened.type("\x1b[A\x1b[A\x1b[A\r")  # /quit, /hlep, and the last line of the message
        opened.wait_for("**bold** and\n\n- a\n- b")
        opened.wait_for(PROMPT)
        opened.type("\x04")
        assert opened.end() == 0
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--no-keep-history"], []], ids=["none kept", "a folder in its place"])
def test_no_history_where_none_is_wanted_or_possible(bare_folder, state, words):
    if not words:
        history(state).mkdir(parents=True)
    command = [sys.executable, "-c", ECHO, "chat", str(bare_folder.path), *words]
    with terminal(command, environment=state, cwd=ROOT) as opened:
        opened.wait_for(PROMPT)
        opened.type("Why?\r")
        opened.wait_for("bold and")
        opened.wait_for(PROMPT)
        opened.type("\x04")
        assert opened.end() == 0
        assert ("are not kept" in opened.shown) == (not words)
    assert not history(state).is_file()


@pytest.mark.slow
def test_without_prompt_toolkit_a_line_is_read_as_before(bare_folder, state):
    code = ECHO.replace("import os, sys\n", "import os, sys\nsys.modules['prompt_toolkit'] = None\n")
    with terminal([sys.executable, "-c", code, "chat", str(bare_folder.path)], environment=state, cwd=ROOT) as opened:
        opened.wait_for("\n>")
        opened.type("a\nb\n")
        opened.wait_for("bold and")
        opened.wait_for("\n>")
        opened.type("/exit\n")
        assert opened.end() == 0
        assert "Alt-Enter" not in opened.shown
    assert not os.path.exists(state["XDG_STATE_HOME"])
