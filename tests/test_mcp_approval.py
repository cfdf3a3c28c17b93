"""Calls of the tools of MCP servers: who approves them in the terminal, in a pipe and on the page."""

import io
import re
import sys
from pathlib import Path

import pytest

import edge
from edge.cli.tool_calls import CallApproval
from edge.config.named_tools import load_servers
from edge.testing import Echo, echo_model

from .serving import scripted
from .test_tool_calls import answer, double, write_config, write_script

pytest.importorskip("mcp")

ROOT = Path(__file__).resolve().parents[1]
SPEAK = ({"when": "Error: the user declined", "reply": "\nA pity."}, {"when": "Again", "reply": "\nGood."},
         {"reply": 'speak\n{"text": "a\\u202eb"}'})  # fmt: skip


def test_a_pipe_needs_an_allow_list(bare_folder, tmp_path, capsys, monkeypatch):
    device = write_script(tmp_path, {"when": "[image: image/png", "reply": "\nI see."}, {"reply": "speak\n{}"})
    model = (str(bare_folder.path), "--device", device)
    code, _, err = answer(capsys, monkeypatch, *model, "--mcp", write_config(tmp_path, "content"))
    assert code == 1
    assert "error: the MCP server talk has no allow list, and nobody approves calls without a terminal\n" in err
    config = write_config(tmp_path, "content", allow=["speak"])
    assert answer(capsys, monkeypatch, *model, "--mcp", config) == (0, "I see.\n", "")


def test_the_page_calls_the_tools_of_a_server(bare_folder, tmp_path):
    httpx2 = pytest.importorskip("httpx2")
    (servers,) = load_servers([write_config(tmp_path, "changes", allow=["*"])], unattended="nobody is there")
    body = {"messages": [{"role": "user", "content": "Speak"}]}
    with servers, scripted(bare_folder, ["speak\n{}", "\nGood."], tools=(double, servers)) as (url, *_):
        assert [tool["name"] for tool in httpx2.get(f"{url}/chat").json()["tools"]] == ["double", "speak"]
        events = httpx2.post(f"{url}/chat", json=body, timeout=60).text
        assert re.search(r'event: tool_result\ndata: .*"content": ?"\d+"', events), events
        assert "Good." in events


ANSWERS = {
    "yes": (["y\n"], [True]),
    "no": (["No\n"], [False]),
    "nothing": (["\n"], [False]),
    "the end of the input": ([], [False]),
    "something else first": (["why?\n", "yes\n"], [True]),
    "each time": (["y\n", "n\n"], [True, False]),
    "always": (["a\n"], [True, True, True]),
}


@pytest.mark.parametrize("which", ANSWERS)
def test_a_person_approves_calls(which, tmp_path, capsys, monkeypatch):
    lines, wanted = ANSWERS[which]
    approval = CallApproval()
    with edge.Chat(echo_model(Echo()), tools=[edge.mcp(write_config(tmp_path)), double], approve=approval) as chat:
        approval.chat = chat
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(lines)))
        assert [approval(edge.ToolCall("speak", "{}", "1")) for _ in wanted] == wanted
        assert approval(edge.ToolCall("double", '{"number": 1}', "2"))
    out, err = capsys.readouterr()
    assert out == ""  # it is no terminal here
    assert err.startswith("speak {}\nRun it on the MCP server talk? [y]es, [n]o, [a]lways: ")


def test_an_allowed_tool_runs_without_a_question(tmp_path, capsys):
    approval = CallApproval()
    with edge.Chat(echo_model(), tools=[edge.mcp(write_config(tmp_path, allow=["speak"]))], approve=approval) as chat:
        approval.chat = chat
        assert approval(edge.ToolCall("speak", "{}", "1"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
def test_a_person_in_a_terminal(bare_folder, tmp_path):
    """The call is shown with its arguments as they are; declined first, then approved."""
    from .terminal import terminal

    device = write_script(tmp_path, *SPEAK)
    command = (
        sys.executable,
        "-m",
        "edge",
        "chat",
        str(bare_folder.path),
        "--device",
        device,
        "--mcp",
        write_config(tmp_path),
    )
    with terminal(command, cwd=ROOT) as talk:
        talk.wait_for("\n>")
        talk.type("Hello\n")
        talk.wait_for('speak {"text": "a\\u202eb"}\nRun it on the MCP server talk? [y]es, [n]o, [a]lways: ')
        talk.type("n\n")
        talk.wait_for("→ Error: the user declined this call\n")
        talk.wait_for("A pity.")
        talk.wait_for("\n>")
        talk.type("/exit\n")
        assert talk.end() == 0
        assert "The model may call speak." in talk.shown  # before the prompt, or after it if loading took longer
        assert b"\x1b[2m" in talk.raw
