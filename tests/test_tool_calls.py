"""Tools in the terminal, in a pipe and on the server's page: `--tool` and `--mcp`, and who approves a call."""

import argparse
import io
import json
import re
import sys
from pathlib import Path

import pytest

import edge
from edge.cli import main
from edge.cli.tool_calls import CallApproval, describe_call, describe_result
from edge.config import Config
from edge.named_tools import load_servers
from edge.testing import Echo, echo_model

from .serving import scripted

HERE = Path(__file__).resolve().parent
HOSTILE = str(HERE / "hostile_mcp_server.py")


def double(number: int) -> int:
    """Double a number."""
    return 2 * number


@pytest.fixture
def config(tmp_path):
    """Write a configuration of a server with the settings given."""

    def write(kind="well", **settings):
        path = tmp_path / "mcp.json"
        entry = {"command": sys.executable, "args": ["-S", HOSTILE, kind]} | settings
        path.write_text(json.dumps({"mcpServers": {"talk": entry}}))
        return str(path)

    return write


@pytest.fixture
def script(tmp_path):
    """Write the replies of a model; the device that gives them."""

    def write(*rules):
        path = tmp_path / "script.jsonl"
        path.write_text("".join(f"{json.dumps(rule)}\n" for rule in rules))
        return f"echo:{path}"

    return write


DOUBLE = ({"when": "42", "reply": "\nIt is 42."}, {"reply": 'double\n{"number": 21}'})
SPEAK = ({"when": "Error: the user declined", "reply": "\nA pity."}, {"when": "Again", "reply": "\nGood."},
         {"reply": 'speak\n{"text": "a\\u202eb"}'})  # fmt: skip


def answer(capsys, monkeypatch, *arguments, text="Hi"):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    code = main(["chat", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_function_runs_in_a_pipe(bare_folder, script, capsys, monkeypatch):
    found = answer(
        capsys, monkeypatch, str(bare_folder.path), "--device", script(*DOUBLE), "--tool", f"{__name__}:double"
    )
    assert found[:2] == (0, "It is 42.\n")


def test_a_pipe_needs_an_allow_list(bare_folder, script, config, capsys, monkeypatch):
    pytest.importorskip("mcp")
    rules = ({"when": "hostile", "reply": "no"}, {"reply": "speak\n{}"})
    model = (str(bare_folder.path), "--device", script({"when": "_server", "reply": "\nYes."}, *rules))
    code, _, err = answer(capsys, monkeypatch, *model, "--mcp", config())
    assert code == 1
    assert "error: the MCP server talk has no allow list, and nobody approves calls without a terminal\n" in err
    code, out, err = answer(capsys, monkeypatch, *model, "--mcp", config(allow=["speak"]), text="_server?")
    assert (code, out, err) == (0, "Yes.\n", "")


SERVED = {
    "no list": ({}, None, "the MCP server talk has no allow list, and nobody approves the calls of the chat page"),
    "a list": ({"allowedTools": ["speak"]}, None, ""),
    "every tool": ({"allow": ["*"]}, None, ""),
    "kiosk, no list": ({}, "", "the MCP server talk has no allow list, and nobody approves the calls of the chat page"),
    "kiosk, every tool": (
        {"allow": ["*"]}, "", "the MCP server talk allows every tool, and nobody approves the calls of the chat page"
    ),
    "kiosk, a list": ({"allow": ["speak"]}, "", ""),
}  # fmt: skip


@pytest.mark.parametrize("which", SERVED)
def test_the_page_needs_an_allow_list(which, config):
    pytest.importorskip("starlette")
    from edge.cli.serve import server_settings

    settings, kiosk, wanted = SERVED[which]
    loaded = Config.load(None, {"mcp": {"servers": [config(**settings)]}})
    if not wanted:
        assert server_settings(loaded, kiosk).tools[0].names == ("talk",)
        return
    with pytest.raises(edge.ToolError) as error:
        server_settings(loaded, kiosk)
    assert str(error.value) == wanted
    assert ('"*"' in error.value.hint) == (kiosk is None)


def test_the_page_calls_the_tools_of_a_server(bare_folder, config):
    pytest.importorskip("mcp")
    httpx2 = pytest.importorskip("httpx2")
    (servers,) = load_servers([config("changes", allow=["*"])], unattended="nobody is there")
    body = {"messages": [{"role": "user", "content": "Speak"}]}
    with servers, scripted(bare_folder, ["speak\n{}", "\nGood."], tools=(double, servers)) as (url, *_):
        assert [tool["name"] for tool in httpx2.get(f"{url}/chat").json()["tools"]] == ["double", "speak"]
        events = httpx2.post(f"{url}/chat", json=body).text
        assert re.search(r'event: tool_result\ndata: .*"content": ?"\d+"', events), events
        assert "Good." in events


CALLS = {
    '{"a": 1}': 'f {"a": 1}',
    '{"a":\n  "b"}': 'f {"a": "b"}',
    '{"a": "\\u202egnp.exe\\u001b[2J"}': 'f {"a": "\\u202egnp.exe\\u001b[2J"}',
    '{"a": "ü中"}': 'f {"a": "ü中"}',
    "broken\n{": "f broken\\u000a{",
}


@pytest.mark.parametrize(("arguments", "wanted"), CALLS.items())
def test_a_call_is_a_line_with_all_of_its_arguments(arguments, wanted):
    assert describe_call(edge.ToolCall("f", arguments, "1")) == wanted


def test_a_long_call_is_shown_to_its_end():
    arguments = json.dumps({"text": "x" * 10_000 + "; rm -rf /"})
    assert describe_call(edge.ToolCall("f", arguments, "1")).endswith('; rm -rf /"}')


def test_a_result_is_a_line():
    assert describe_result(edge.ToolResult("1", "f", "a\n b\x1b[2J")) == "→ a b\ufffd[2J"
    assert describe_result(edge.ToolResult("1", "f", "x" * 1000)) == f"→ {'x' * 199}… (1,000 characters)"


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
def test_a_person_approves_calls(which, config, capsys, monkeypatch):
    pytest.importorskip("mcp")
    lines, wanted = ANSWERS[which]
    approval = CallApproval()
    with edge.Chat(echo_model(Echo()), tools=[edge.mcp(config()), double], approve=approval) as chat:
        approval.chat = chat
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(lines)))
        assert [approval(edge.ToolCall("speak", "{}", "1")) for _ in wanted] == wanted
        assert approval(edge.ToolCall("double", '{"number": 1}', "2"))
    out, err = capsys.readouterr()
    assert out == ""  # it is no terminal here
    assert err.startswith("speak {}\nRun it on the MCP server talk? [y]es, [n]o, [a]lways: ")


def test_an_allowed_tool_runs_without_a_question(config, capsys):
    pytest.importorskip("mcp")
    approval = CallApproval()
    with edge.Chat(echo_model(), tools=[edge.mcp(config(allow=["speak"]))], approve=approval) as chat:
        approval.chat = chat
        assert approval(edge.ToolCall("speak", "{}", "1"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
def test_a_person_in_a_terminal(bare_folder, script, config):
    """The call is shown with its arguments as they are; declined first, then approved."""
    pytest.importorskip("mcp")
    from .terminal import terminal

    device = script(*SPEAK)
    command = (sys.executable, "-m", "edge", "chat", str(bare_folder.path), "--device", device, "--mcp", config())
    with terminal(command, cwd=HERE.parent) as talk:
        talk.wait_for("The model may call speak.")
        talk.wait_for("\n> ")
        talk.type("Hello\n")
        talk.wait_for('speak {"text": "a\\u202eb"}\nRun it on the MCP server talk? [y]es, [n]o, [a]lways: ')
        talk.type("n\n")
        talk.wait_for("→ Error: the user declined this call\n")
        talk.wait_for("A pity.")
        talk.wait_for("\n> ")
        talk.type("/exit\n")
        assert talk.end() == 0
        assert b"\x1b[2m" in talk.raw


def test_the_flags_are_settings():
    from edge.cli import parser

    args = parser().parse_args(["chat", "x", "--tool", "a:b", "--tool", "c:d", "--mcp", "uvx mcp-server-time"])
    assert isinstance(args, argparse.Namespace)
    from edge.cli.config_flags import load_config

    loaded = load_config(args)
    assert (loaded.chat.tool, loaded.mcp.servers) == (("a:b", "c:d"), ("uvx mcp-server-time",))


def test_paths_of_configurations_are_relative_to_the_settings_file(tmp_path):
    servers = ["mcp.json", "uvx a --config b.json", "https://example.invalid/mcp"]
    (tmp_path / "edge.toml").write_text(f"[mcp]\nservers = {json.dumps(servers)}\n")
    loaded = Config.load(str(tmp_path / "edge.toml"))
    assert loaded.mcp.servers == (str(tmp_path / "mcp.json"), *servers[1:])
