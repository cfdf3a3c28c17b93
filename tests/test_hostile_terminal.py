"""Control characters of models, folders and servers: none reaches the terminal or a service's file."""

import io
import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
from rich.table import Table

from edge import service
from edge.cli import convert, main, output
from edge.demo import CHECKPOINT
from edge.server.logs.log import LogFormatter
from runtime.errors import RequestError
from runtime.text import replace_controls

HOSTILE = "a\x1b[2J\x1b]0;x\x07\x9b31m\x7fb\x00\rc"


def harmless(text):
    return all(char in "\n\t" or not (ord(char) < 32 or 127 <= ord(char) < 160) for char in text)


def test_text_tables_and_json_are_harmless(capsys):
    output.print_text(HOSTILE)
    output.print_json({"a": HOSTILE})
    table = Table("name", "other")
    table.add_row(HOSTILE, HOSTILE)
    output.print_table(table)
    out = capsys.readouterr().out
    assert harmless(out)
    assert "�" in out
    assert replace_controls("a\tb\n你好 🎉") == "a\tb\n你好 🎉"


def test_an_error_is_harmless(capsys, tmp_path):
    assert main(["inspect", str(tmp_path / HOSTILE.replace("\x00", ""))]) == 1
    assert harmless(capsys.readouterr().err)


def test_a_models_answer_is_harmless(bare_folder, capsys):
    from edge.cli.chat import print_reply
    from runtime.backends.echo import Echo
    from runtime.chat import Chat
    from runtime.model import Model

    print_reply(Chat(Model(bare_folder, backend=Echo([HOSTILE]))), "?")
    out = capsys.readouterr().out
    assert out.startswith("a�[2J")
    assert harmless(out)


def test_json_is_still_what_it_was(capsys):
    output.print_json({"a": HOSTILE})
    assert json.loads(capsys.readouterr().out) == {"a": HOSTILE}


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("break_", ["\n", "\r", "\x00", "\x85", "\u2028"])
def test_a_folders_name_adds_no_directive(tmp_path, platform, break_):
    with pytest.raises(RequestError, match="control character") as caught:
        service.describe_service((f"/models/a{break_}ExecStartPre=/bin/false", "--port", "80"), platform, tmp_path)
    assert harmless(str(caught.value))
    assert service.describe_service(("/models/a b",), platform, tmp_path).text


@pytest.fixture
def hostile_checkpoint(tmp_path):
    """The embedded checkpoint under a name that acts on a terminal."""
    if sys.platform == "win32":
        pytest.skip("Windows has no such names")
    return Path(shutil.copytree(CHECKPOINT, tmp_path / HOSTILE.replace("\x00", "")))


@pytest.mark.parametrize("verb", ["recipes", "export-template"])
def test_a_folders_name_is_harmless(hostile_checkpoint, verb, capsys):
    assert main([verb, str(hostile_checkpoint)]) == 0
    out = capsys.readouterr().out
    assert harmless(out)
    assert "�[2J" in out


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_harmless_and_no_markup(bare_folder, monkeypatch):
    """As a tensor's name would have it."""
    from runtime.progress import Progress

    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "200")
    convert.show_progress([Progress("compress", f"[/]{HOSTILE}", 1, 1), Progress("seal", result=bare_folder)])
    assert "[/]a�[2J�]0;x�" in terminal.getvalue()
    for act in ("\x1b[2J", "\x1b]0;", "\x07", "\x9b"):
        assert act not in terminal.getvalue()


@pytest.mark.slow
def test_a_report_is_harmless(demo_folder, tmp_path, capsys):
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": "[1, 2, 3, 4, 5, 6, 7, 8]"}) + "\n")
    if sys.platform == "win32":
        pytest.skip("Windows has no such names")
    folder = shutil.copytree(demo_folder.path, tmp_path / HOSTILE.replace("\x00", ""))
    asked = ["eval", str(folder), "--texts", str(texts), "--context", "64", "--new-tokens", "0"]
    assert main([*asked, "--out", str(tmp_path / "report")]) == 0
    out = capsys.readouterr().out
    assert "# a�[2J" in out
    assert harmless(out)
    assert harmless((tmp_path / "report" / "report.md").read_text(encoding="utf-8"))


def test_a_servers_log_is_harmless():
    record = logging.makeLogRecord({"msg": "%s cannot be loaded", "args": (HOSTILE,), "levelno": logging.ERROR})
    line = LogFormatter("%(asctime)s %(message)s").format(record)
    assert harmless(line)
    assert "a�[2J" in line
