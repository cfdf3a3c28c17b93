"""Configurations of MCP servers: command lines, URLs, dicts, and the `mcpServers` JSON of desktop apps and editors."""

import json
import re
import warnings
from pathlib import Path

import pytest

import edge
from edge.mcp_client.config import MAX_BYTES, MAX_SERVERS, ServerConfig, read_servers
from edge.mcp_client.tool_names import unique_names

TIME = {"command": "uvx", "args": ["mcp-server-time"]}


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    monkeypatch.setenv("TOKEN", "abc")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("MISSING", raising=False)


def program(name, *command, **settings):
    return ServerConfig(name, command=command, **settings)


def remote(name, url, transport="http", **settings):
    return ServerConfig(name, url=url, transport=transport, **settings)


SERVERS = {
    "a command line": ("uvx mcp-server-time", program("time", "uvx", "mcp-server-time")),
    "quotes": ("a 'b c' \"d\"", program("a", "a", "b c", "d")),
    "a package with a scope": (
        "npx -y @modelcontextprotocol/server-memory",
        program("memory", "npx", "-y", "@modelcontextprotocol/server-memory"),
    ),
    "a version": ("uvx mcp-server-git@1.2", program("git", "uvx", "mcp-server-git@1.2")),
    "a script": ("python ./tools/time_server.py", program("time", "python", "./tools/time_server.py")),
    "a file for the command": ("serve --config a.json", program("serve", "serve", "--config", "a.json")),
    "a URL": ("https://a.example/mcp", remote("a.example", "https://a.example/mcp")),
    "an entry": (TIME, program("time", "uvx", "mcp-server-time")),
    "an entry with a name": (TIME | {"name": "clock"}, program("clock", "uvx", "mcp-server-time")),
    "a file's dict": ({"mcpServers": {"x": TIME}}, program("x", "uvx", "mcp-server-time")),
    "an editor's": ({"servers": {"x": TIME | {"type": "stdio"}}}, program("x", "uvx", "mcp-server-time")),
    "a command line in the command": ({"command": "uvx mcp-server-time"}, program("time", "uvx", "mcp-server-time")),
    "variables": (
        {"command": "${TOKEN}", "args": ["${env:TOKEN}", "${MISSING:-d e}", "${EMPTY:-f}", "${EMPTY}", "$TOKEN"],
         "env": {"A": "x${TOKEN}y", "B": 1}},
        program("abc", "abc", "abc", "d e", "f", "", "$TOKEN", env=(("A", "xabcy"), ("B", "1"))),
    ),
    "headers": (
        {"url": "http://localhost:1/${TOKEN}", "headers": {"Authorization": "Bearer ${TOKEN}"}},
        remote("localhost", "http://localhost:1/abc", headers=(("Authorization", "Bearer abc"),)),
    ),
    "sse": ({"url": "http://a/sse", "type": "SSE"}, remote("a", "http://a/sse", "sse")),
    "streamable": ({"url": "http://a/", "type": "streamable-http"}, remote("a", "http://a/")),
    "allow": (TIME | {"allow": ["a", "*"]}, program("time", "uvx", "mcp-server-time", allow=frozenset("a*"))),
    "allowedTools": (TIME | {"allowedTools": []}, program("time", "uvx", "mcp-server-time", allow=frozenset())),
    "one is disabled": (
        {"mcpServers": {"a": {"command": "${MISSING}", "disabled": True}, "time": TIME | {"disabled": False}}},
        program("time", "uvx", "mcp-server-time"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", SERVERS)
def test_a_server(which):
    source, wanted = SERVERS[which]
    assert read_servers(source) == (wanted,)


def test_a_file(tmp_path):
    path = tmp_path / "my servers.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"mcpServers": {"a": TIME, "b": {"url": "http://b/"}}}).encode())
    assert [server.name for server in read_servers(path)] == ["a", "b"]
    assert read_servers(str(path)) == read_servers(path)


INVALID = {
    "a list": ([], "an MCP server is a text or a dict, not list"),
    "nothing": (" ", "the MCP server has no command"),
    "an open quote": ("a 'b", "the command line \"a 'b\" is not complete: No closing quotation"),
    "no host": ("https://", "the URL: its url is not valid: it has no host name"),
    "an empty dict": ({}, "the configuration has no mcpServers"),
    "no servers": ({"mcpServers": {}}, "the configuration has no mcpServers"),
    "a list of servers": ({"mcpServers": [TIME]}, "the configuration has no mcpServers"),
    "all disabled": ({"servers": {"a": TIME | {"disabled": True}}}, "has no MCP server that is enabled"),
    "too many": (
        {"mcpServers": {str(number): TIME for number in range(MAX_SERVERS + 1)}}, "the configuration has 65 MCP servers"
    ),
    "a text": ({"mcpServers": {"a": "uvx"}}, "the configuration: the MCP server 'a' is not an object"),
    "neither": ({"mcpServers": {"a": {}}}, "the MCP server 'a' has neither a command nor a url"),
    "both": ({"command": "a", "url": "http://a"}, "the configuration has both a command and a url"),
    "another type": ({"url": "http://a", "type": "ws"}, "the configuration has the type 'ws'"),
    "a type that does not fit": ({"url": "http://a", "type": "stdio"}, "the configuration has the type 'stdio'"),
    "a number": ({"command": 3}, "the configuration: command is 3"),
    "args": ({"command": "a", "args": "b"}, "the configuration: args is 'b'"),
    "env": ({"command": "a", "env": ["B=c"]}, "the configuration: env is ['B=c']"),
    "an object in env": ({"command": "a", "env": {"B": {}}}, "the configuration: 'B' in env is not a text"),
    "a name in env": ({"command": "a", "env": {"B=C": "d"}}, "the configuration: 'B=C' in env is not a text"),
    "a header": ({"url": "http://a", "headers": {"A": "b\r\nC: d"}}, "the configuration: the header 'A' is not ASCII"),
    "NUL": ({"command": "a\x00"}, "the configuration: command is 'a\ufffd'"),
    "allow": (TIME | {"allow": "all"}, "the configuration: allow is 'all'"),
    "disabled": ({"mcpServers": {"a": TIME | {"disabled": "yes"}}}, "the MCP server 'a': disabled is 'yes'"),
    "a variable": (TIME | {"env": {"A": "${MISSING}"}}, "the environment variable MISSING is not set"),
    "an editor's input": (TIME | {"env": {"A": "${input:key}"}}, "'${input:key}' asks an editor for input"),
}  # fmt: skip


@pytest.mark.parametrize("which", INVALID)
def test_an_invalid_one_is_an_error_of_one_line(which):
    source, wanted = INVALID[which]
    with pytest.raises(edge.RequestError, match=re.escape(wanted)) as error:
        edge.mcp(source)
    assert error.value.hint
    assert "\n" not in str(error.value)


FILES = {
    "nothing": (b"", "is not JSON"),
    "comments": (b'{"mcpServers": {} /* none */}', "is not JSON"),
    "a list": (b"[]", "has no JSON object"),
    "bytes": (b"\xff\x00\x01", "is not JSON"),
    "deep": (b"[" * 100_000, "is not JSON: it is nested more than 200 deep"),
    "large": (b" " * MAX_BYTES + b"{}", "cannot be read"),
}


@pytest.mark.parametrize("which", FILES)
def test_an_invalid_file(which, tmp_path):
    data, wanted = FILES[which]
    path = tmp_path / "mcp.json"
    path.write_bytes(data)
    with pytest.raises(edge.RequestError, match=re.escape(wanted)):
        edge.mcp(path)


def test_a_missing_file(tmp_path):
    for name in ("mcp.json", Path("mcp.conf")):
        with pytest.raises(edge.RequestError, match=r"mcp.* cannot be read: No such file"):
            edge.mcp(name)


def test_settings_of_other_clients_are_a_notice():
    with pytest.warns(edge.Notice, match="settings that are not supported here and are ignored: alwaysAllow, timeout"):
        read_servers(TIME | {"alwaysAllow": ["a"], "timeout": 60, "description": "The time"})


def test_passwords_do_not_appear_in_what_is_printed():
    (server,) = read_servers({"url": "http://a/?key=abc", "headers": {"A": "${TOKEN}"}})
    assert "abc" not in repr(server)


@pytest.mark.parametrize("allow", ["a", [1]])
def test_an_allow_list_is_a_list_of_names(allow):
    with pytest.raises(edge.RequestError, match="allow must be a list of the names of tools"):
        edge.mcp(TIME, allow=allow)


def test_an_allow_list_of_the_program_replaces_that_of_the_file():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        servers = edge.mcp(TIME | {"allow": ["a"]}, allow=["b"])
    servers.require_allow_lists("nobody is there")
    assert servers.names == ("time",)


NAMES = {
    "as they are": ([("s", "a.b-c_D9")], (), ["a.b-c_D9"]),
    "mapped": ([("s", "a b/c")], (), ["a_b_c"]),
    "a clash": ([("s", "a"), ("t", "a"), ("t", "b")], (), ["s_a", "t_a", "b"]),
    "taken": ([("s", "a")], {"a"}, ["s_a"]),
    "taken twice": ([("s", "a")], {"a", "s_a"}, ["s_a_2"]),
    "long": ([("s", "x" * 80)], (), ["x" * 64]),
    "long, twice": ([("s", "x" * 80), ("s", "x" * 90)], (), ["s_" + "x" * 62, "s_" + "x" * 60 + "_2"]),
    "nothing": ([("s", "")], (), ["tool"]),
}


@pytest.mark.parametrize("which", NAMES)
def test_names(which):
    tools, taken, wanted = NAMES[which]
    assert unique_names(tools, taken) == wanted
