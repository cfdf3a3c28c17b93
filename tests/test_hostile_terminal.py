"""Control characters of models, folders and servers: none reaches the terminal or a service's file."""

import json

import pytest
from rich.table import Table

from edge import service
from edge.cli import main, output
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
    from edge.cli.chat import _say
    from runtime.backends.echo import Echo
    from runtime.chat import Chat
    from runtime.model import Model

    _say(Chat(Model(bare_folder, backend=Echo([HOSTILE]))), "?")
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
        service.service((f"/models/a{break_}ExecStartPre=/bin/false", "--port", "80"), platform, tmp_path)
    assert harmless(str(caught.value))
    assert service.service(("/models/a b",), platform, tmp_path).text
