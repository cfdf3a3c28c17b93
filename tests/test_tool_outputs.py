"""Results of tools with pictures and citations."""

import os
import stat

import numpy as np
import pytest

import edge
from runtime.backends.echo import Echo
from runtime.events import ToolCall
from runtime.prompt.families import FAMILIES
from runtime.tool_call import run_call
from runtime.tools import to_tools
from runtime.turn import describe_pictures, result_message


def _picture(shade):
    return edge.Picture.open(np.full((4, 4, 3), shade, np.uint8))


@pytest.mark.parametrize(
    ("returned", "text", "count"),
    [
        (_picture(0), "", 1),
        ([_picture(0), "a", {"b": 1}, _picture(9)], 'a\n{"b":1}', 2),
        (edge.ToolOutput("c", (_picture(0),)), "c", 1),
        ([1, 2], "[1,2]", 0),
    ],
)
def test_a_result_may_have_pictures(returned, text, count):
    def show() -> object:
        return returned

    result = run_call(to_tools([show]), ToolCall("show", "{}", "1"))
    assert (result.content, len(result.pictures), result.error) == (text, count, False)


@pytest.mark.parametrize(
    ("family", "content", "kept"),
    [
        ("glm4_6v", "see", 2),
        ("glm4_0414", "see\n[2 pictures, shown to the user]", 0),
        ("glm4_2024", "see\n[Image]\n[Image]", 0),
    ],
)
def test_a_family_reads_pictures_of_results_or_words_about_them(family, content, kept, bare_folder):
    model = edge.Model(bare_folder, backend=Echo())
    model.family = FAMILIES[family]
    result = describe_pictures(model, edge.ToolResult("1", "show", "see", pictures=(_picture(0), _picture(9))))
    message = result_message(model, result)
    assert (result.content, len(result.pictures)) == (content, 2)
    assert (message.content, len(message.pictures), message.picture_places) == (content, kept, (3,) * kept)
    again = edge.Message.from_json(message.to_json())
    assert again == message


def test_citations_of_results_are_those_of_the_reply(bare_folder):
    found = edge.Citation("fares.md", "lines 1-2", "12 crowns", 7)

    def look() -> edge.ToolOutput:
        """Look it up."""
        return edge.ToolOutput("12 crowns", citations=(found,))

    with edge.Chat(edge.Model(bare_folder, backend=Echo(["\nlook\n{}", "\n12【7†source】"])), tools=[look]) as chat:
        assert chat.send("What does it cost?").citations == (found,)


def test_the_terminal_keeps_pictures_and_says_where(bare_folder, tmp_path, capsys, monkeypatch):
    from edge.cli import chat as chat_module
    from edge.cli import kept_pictures

    def plot() -> edge.Picture:
        """A plot."""
        return _picture(9)

    folder = tmp_path / "pictures"
    monkeypatch.setattr(kept_pictures, "pictures_folder", lambda: folder)
    model = edge.Model(bare_folder, backend=Echo(["plot\n{}", "\nSee."] * 3))
    for terminal in (False, True):
        monkeypatch.setattr(chat_module, "is_terminal", lambda _, terminal=terminal: terminal)
        chat_module.print_reply(edge.Chat(model, tools=[plot]), "?")
        assert folder.exists() == terminal
    (path,) = folder.iterdir()
    assert f"→ picture, 4 x 4: {path}\n" in capsys.readouterr().out
    assert edge.Picture.open(path) == _picture(9)
    assert path.suffix == ".png"
    if os.name == "posix":
        assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(folder.stat().st_mode)) == (0o600, 0o700)
    monkeypatch.setattr(kept_pictures, "pictures_folder", lambda: path / "below a file")
    chat_module.print_reply(edge.Chat(model, tools=[plot]), "?")
    assert "→ a picture that cannot be kept: " in capsys.readouterr().out
