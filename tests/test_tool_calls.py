"""Tools in the terminal, in a pipe and on the server's page: `--tool` and `--mcp`, and who approves a call."""

import argparse
import io
import json
import sys
from pathlib import Path

import pytest

import edge
from edge.cli import main
from edge.cli.tool_calls import describe_call, describe_result
from edge.config.settings_file import Config

HERE = Path(__file__).resolve().parent
HOSTILE = str(HERE / "hostile_mcp_server.py")


def double(number: int) -> int:
    """Double a number."""
    return 2 * number


def write_config(folder, kind="well", **settings):
    """Write a configuration of a server with these settings; return its path."""
    path = folder / "mcp.json"
    entry = {"command": sys.executable, "args": ["-S", HOSTILE, kind]} | settings
    path.write_text(json.dumps({"mcpServers": {"talk": entry}}))
    return str(path)


def write_script(folder, *rules):
    """Write the replies of a model; return the device that gives them."""
    path = folder / "script.jsonl"
    path.write_text("".join(f"{json.dumps(rule)}\n" for rule in rules))
    return f"echo:{path}"


DOUBLE = ({"when": "42", "reply": "\nIt is 42."}, {"reply": 'double\n{"number": 21}'})


def answer(capsys, monkeypatch, *arguments, text="Hi"):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    code = main(["chat", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_function_runs_in_a_pipe(bare_folder, tmp_path, capsys, monkeypatch):
    found = answer(
        capsys,
        monkeypatch,
        str(bare_folder.path),
        "--device",
        write_script(tmp_path, *DOUBLE),
        "--tool",
        f"{__name__}:double",
    )
    assert found[:2] == (0, "It is 42.\n")


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
def test_the_page_needs_an_allow_list(which, tmp_path):
    pytest.importorskip("starlette")
    from edge.cli.serve import server_settings

    settings, kiosk, wanted = SERVED[which]
    loaded = Config.load(None, {"mcp": {"servers": [write_config(tmp_path, **settings)]}})
    if not wanted:
        assert server_settings(loaded, kiosk).tools[0].names == ("talk",)
        return
    with pytest.raises(edge.ToolError) as error:
        server_settings(loaded, kiosk)
    assert str(error.value) == wanted
    assert ('"*"' in error.value.hint) == (kiosk is None)


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
