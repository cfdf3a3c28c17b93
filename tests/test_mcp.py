"""The tools of MCP servers in a chat: a server of the official SDK on each transport, and servers that misbehave."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

import edge
from edge.testing import Echo, echo_model
from runtime.tool_call import run_call

from .serving import free_port

pytest.importorskip("mcp")

HERE = Path(__file__).resolve().parent
SERVER = [sys.executable, str(HERE / "mcp_server.py")]


def hostile(kind, **settings):
    return {
        "command": sys.executable,
        "args": ["-S", str(HERE / "hostile_mcp_server.py"), kind],
        "name": "hostile",
        **settings,
    }


def call(servers, tool, *, timeout=30, **arguments):
    tools = {each.name: each for each in servers.tools()}
    return run_call(tools, edge.ToolCall(tool, json.dumps(arguments), "1"), timeout=timeout)


def names(servers):
    return [tool.name for tool in servers.tools()]


def wait_for_tool(servers, name):
    deadline = time.monotonic() + 30
    while name not in names(servers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture(scope="module")
def http_server(tmp_path_factory):
    with served("http", tmp_path_factory.mktemp("http")) as url:
        yield url


@contextmanager
def served(kind, folder):
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*SERVER, kind, str(port)], stdout=log, stderr=log)
    try:
        for _ in range(600):
            with suppress(OSError):
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/")
            if "running on" in (folder / "log").read_text(encoding="utf-8").lower():
                break
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/{'mcp' if kind == 'http' else 'sse'}"
    finally:
        process.kill()
        process.wait()


def test_a_server_of_the_sdk(tmp_path, monkeypatch):
    """One start of it: it takes seconds to import."""
    monkeypatch.setenv("SECRET", "of this process")
    monkeypatch.setenv("TOKEN", "abc")
    config = {"command": SERVER[0], "args": SERVER[1:], "cwd": str(tmp_path), "env": {"OURS": "${TOKEN}-${NONE:-x}"}}
    with edge.mcp({"mcpServers": {"weather": config}}) as servers:
        assert names(servers) == ["get_weather", "fail", "picture", "environment", "learn"]
        weather = servers.tools()[0]
        assert (weather.server, weather.listed_as, weather.allowed, weather.read_only) == (
            "weather", "get_weather", False, True,
        )  # fmt: skip
        assert weather.description == "The weather of a city."
        assert weather.parameters["required"] == ["city"]

        engine = Echo(['get_weather\n{"city": "Paris"}', "21.5 degrees"])
        with edge.Chat(echo_model(engine), tools=[servers]) as chat:
            reply = chat.send("How warm is it in Paris?")
        assert reply.text == "21.5 degrees"
        assert json.loads(chat.history[-2].content) == {"city": "Paris", "degrees": 21.5}
        assert "The weather of a city." in "".join(engine.requests[0].prompt)

        assert call(servers, "fail", reason="no coffee").content == "Error: Error executing tool fail: no coffee"
        assert call(servers, "fail").error
        assert call(servers, "picture").content == "Here it is:\n\n[image: image/png, 8 bytes]"
        assert call(servers, "environment", name="OURS").content == f"abc-x in {tmp_path}"
        assert call(servers, "environment", name="SECRET").content == f"not set in {tmp_path}"
        assert call(servers, "learn", name="swim").content == "learned"
        wait_for_tool(servers, "swim")
        assert call(servers, "swim").content == "swim"


def test_a_server_over_http(http_server):
    with edge.mcp(http_server, allow=["get_weather", "environment"]) as servers:
        assert servers.names == ("127.0.0.1",)
        assert names(servers) == ["get_weather", "environment"]
        assert all(tool.allowed for tool in servers.tools())
        assert '"city": "Rome"' in call(servers, "get_weather", city="Rome").content


def test_an_async_chat_over_http(http_server):
    async def talk():
        model = echo_model(Echo(['get_weather\n{"city": "Paris"}', "warm"]))
        async with edge.AsyncChat(model, tools=[edge.mcp(http_server)]) as chat:
            return await chat.send("How warm is it?")

    assert asyncio.run(talk()).text == "warm"


def test_a_server_over_the_older_http(tmp_path):
    with served("sse", tmp_path) as url, edge.mcp({"url": url, "type": "sse"}) as servers:
        assert '"city": "Rome"' in call(servers, "get_weather", city="Rome").content


def test_the_embedded_checkpoint_calls_a_tool(demo_folder):
    with edge.Chat(demo_folder, tools=[edge.mcp(hostile("well"))], device="CPU", max_rounds=1) as chat:
        chat.send("Speak.", tool_choice="speak", max_new_tokens=40)
        assert chat.history[-1].content.isdigit()


def test_a_chat_starts_its_servers_and_ends_them():
    before = children()
    servers = edge.mcp(hostile("well"))
    assert children() == before
    with pytest.raises(edge.ToolError, match="not started"):
        servers.tools()
    with edge.Chat(echo_model(), tools=[servers]) as first, edge.Chat(echo_model(), tools=[servers]) as second:
        assert len(children() - before) == 1
        assert list(first.tools) == list(second.tools) == ["speak"]
        first.close()
        first.close()
        assert len(children() - before) == 1
        assert call(servers, "speak").content.isdigit()
    assert children() == before
    with servers:
        assert len(children() - before) == 1


@pytest.mark.slow
def test_a_server_that_ignores_the_end_of_its_input_is_killed():
    before = children()
    with edge.mcp(hostile("stays")):
        assert len(children() - before) == 1
    assert children() == before


def test_a_program_that_is_killed_leaves_no_server(tmp_path):
    code = (
        "import edge, json, sys, time\n"
        "servers = edge.mcp(json.loads(sys.argv[1]))\n"
        "servers.open()\n"
        "from edge.mcp_client import servers as module\n"
        "print(servers.tools()[0].name, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, json.dumps(hostile("well"))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent)
    assert process.stdout.readline() == "speak\n"
    (server,) = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    server.wait(30)


@pytest.mark.slow
def test_a_program_that_closes_nothing_ends():
    code = "import edge, json, sys\nedge.mcp(json.loads(sys.argv[1])).open()"
    subprocess.run([sys.executable, "-c", code, json.dumps(hostile("stays"))], timeout=60, check=True, cwd=HERE.parent)


@pytest.mark.parametrize("kind", ["dies once", "dies later"])
def test_a_server_that_ended_starts_again(kind, tmp_path):
    with edge.mcp(hostile(kind, cwd=str(tmp_path))) as servers:
        if kind == "dies once":
            result = call(servers, "speak")
            assert result.error
            assert "ended during the call; the next call starts it again (out of coffee)" in result.content
        else:
            time.sleep(0.5)
        assert call(servers, "speak").content.isdigit()


def test_a_server_that_announces_other_tools():
    with edge.mcp(hostile("changes")) as servers:
        assert call(servers, "speak").content.isdigit()
        wait_for_tool(servers, "added_0")
        assert call(servers, "added_0").content.isdigit()
        wait_for_tool(servers, "added_1")


@pytest.mark.slow
def test_a_call_has_a_time_limit():
    with edge.mcp(hostile("silent"), timeout=0.3) as servers:
        begun = time.monotonic()
        assert call(servers, "speak").content == "Error: speak did not finish within 0.3 seconds"
        assert time.monotonic() - begun < 5


@pytest.mark.slow
def test_a_cancelled_reply_does_not_wait_for_a_call():
    with edge.Chat(echo_model(Echo(["speak\n{}"])), tools=[edge.mcp(hostile("silent"))]) as chat:
        events = chat.stream("Speak")
        for event in events:
            if isinstance(event, edge.ToolCall):
                threading.Timer(0.2, chat.cancel).start()
        assert event.reason == "cancelled"


RESULTS = {
    "garbage": lambda text: text.isdigit(),
    "huge": lambda text: len(text) == 65_536 and text.endswith("of 3,000,000 characters]"),
    "content": lambda text: text.split("\n\n") == [
        "one",
        "[image: image/png, 5 bytes]",
        "[audio: audio/wav, 6 bytes]",
        "[resource file:///a.txt: a.txt A text]",
        "[resource file:///b.txt]\ntwo",
        "[resource file:///c.bin: a/b, 6 bytes]",
        '{"spoken": 1}',
    ],
    "unknown content": lambda text: text.startswith("Error: the MCP server hostile sent an invalid result: "),
    "no text": lambda text: text == '{"spoken": 1}',
    "dies": lambda text: text.startswith("Error: the MCP server hostile ended during the call"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RESULTS)
def test_whatever_a_server_answers_is_a_result(kind, tmp_path):
    with edge.mcp(hostile(kind, cwd=str(tmp_path))) as servers:
        found = call(servers, "speak").content
        assert RESULTS[kind](found), found[:500]


UNUSABLE = {
    "many": "the MCP server hostile offers more than 128 tools",
    "endless": "the MCP server hostile lists its tools without end",
    "no tools": "the MCP server hostile offers no tools",
    "not at all": "the MCP server hostile did not start: hostile: the variable TOKEN is missing",
    "no schema": "the MCP server hostile",
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_server_that_cannot_be_used_is_an_error(kind):
    before = children()
    with pytest.raises(edge.ToolError) as error, edge.Chat(echo_model(), tools=[edge.mcp(hostile(kind))]):
        pass
    assert str(error.value).startswith(UNUSABLE[kind])
    assert error.value.hint
    assert "\n" not in str(error.value)
    assert children() == before


def test_a_server_that_prints_something_else_first():
    with edge.mcp(hostile("not one")) as servers:
        assert names(servers) == ["speak"]


UNREACHABLE = {
    "no program": ({"command": "no-such-program"}, "cannot be started: there is no program 'no-such-program'"),
    "no folder": ({"command": sys.executable, "cwd": "/no/such"}, "cannot be started: there is no folder '/no/such'"),
    "not one": ({"command": sys.executable, "args": ["-c", ""]}, "did not start"),
    "nobody": ({"url": "http://127.0.0.1:9/mcp"}, "cannot be reached: 127.0.0.1:9 refused the connection"),
}


@pytest.mark.parametrize("which", UNREACHABLE)
def test_a_server_that_is_not_there_is_an_error(which):
    config, wanted = UNREACHABLE[which]
    with pytest.raises(edge.ToolError) as error, edge.mcp(config | {"name": "it"}):
        pass
    assert str(error.value).startswith(f"the MCP server it {wanted}")


def test_one_server_that_fails_ends_the_others():
    before = children()
    entries = {"good": hostile("well"), "bad": {"command": "no-such-program"}}
    with pytest.raises(edge.ToolError, match="bad cannot be started"), edge.mcp({"mcpServers": entries}):
        pass
    assert children() == before


def test_ten_thousand_tools_and_an_allow_list():
    with edge.mcp(hostile("many"), allow=["tool_7", "tool_9999"]) as servers:
        assert names(servers) == ["tool_7", "tool_9999"]


def test_a_large_definition_is_left_out_with_a_notice():
    servers = edge.mcp(hostile("large"))
    with pytest.warns(edge.Notice, match="'large' of the MCP server hostile is left out"):
        servers.open()
    assert names(servers) == ["speak"]
    servers.close()


def test_an_allow_list_with_a_typing_error_is_a_notice():
    servers = edge.mcp(hostile("well"), allow=["speka"])
    with pytest.warns(edge.Notice, match="hostile has no tool 'speka'"), servers:
        assert names(servers) == []


def test_names_are_what_a_model_can_call():
    with edge.mcp(hostile("names")) as servers:
        found = names(servers)
    assert found[3] == "größe"
    assert found[:3] == ["hostile_a_b", "hostile_a_b_2", "hostile_a_b_3"]
    assert len(found) == len(set(found)) == 7
    assert max(map(len, found)) <= 64


def test_names_that_clash_are_prefixed():
    def speak() -> str:
        """Ours."""
        return "ours"

    entries = {"a": hostile("well"), "b c": hostile("well")}
    two, one = edge.mcp({"mcpServers": entries}), edge.mcp(hostile("well"))
    with edge.Chat(echo_model(), tools=[two]) as chat:
        assert list(chat.tools) == ["a_speak", "b_c_speak"]
    with edge.Chat(echo_model(), tools=[one, speak]) as chat:
        assert list(chat.tools) == ["speak", "hostile_speak"]


def test_a_schema_that_cannot_be_enforced_is_offered(demo_folder):
    """Even by a chat whose own tools are strict."""
    with edge.Chat(demo_folder, tools=[edge.mcp(hostile("invalid"))], strict=True, device="CPU", max_rounds=1) as chat:
        assert list(chat.tools) == ["banana", "speak"]
        assert chat.send("Speak.", max_new_tokens=8).text
        for tool in chat.tools:
            chat.send("Speak.", tool_choice=tool, max_new_tokens=30)


def test_servers_belong_into_a_list():
    servers = edge.mcp(hostile("well"))
    with pytest.raises(edge.ToolError, match="tools must be a list, not McpServers"):
        edge.Chat(echo_model(), tools=servers)
    with edge.Chat(echo_model()) as chat, pytest.raises(edge.ToolError, match="not started"):
        chat.send("Hi", tools=[servers])
    with servers, edge.Chat(echo_model(Echo(["speak\n{}", "done"]))) as chat:
        assert chat.send("Hi", tools=[servers]).text == "done"


def test_opening_a_chat_that_fails_ends_its_servers(tmp_path):
    before = children()
    with pytest.raises(edge.EdgeError):
        edge.Chat(tmp_path, tools=[edge.mcp(hostile("well"))])
    assert children() == before


def test_standard_error_goes_to_the_log(caplog, capfd):
    caplog.set_level("INFO", logger="edge.mcp")
    with warnings.catch_warnings(), edge.mcp(hostile("dies", cwd=os.curdir)) as servers:
        call(servers, "speak")
        with suppress(OSError):
            os.remove("died")
    assert "hostile: out of coffee" in caplog.text
    assert capfd.readouterr().err == ""


class Answers(BaseHTTPRequestHandler):
    """A server that gives the same answer to every request: a status, a content type and a body."""

    status, kind, body = 200, "text/html", b"<p>Welcome"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(self.body)

    do_GET = do_DELETE = do_POST

    def log_message(self, *arguments):
        pass


ANSWERS = {
    "401": ({"status": 401}, "answered with HTTP 401"),
    "404": ({"status": 404}, "answered with HTTP 404"),
    "500": ({"status": 500, "kind": "application/json", "body": b"{}"}, "answered with HTTP 500"),
    "a page": ({}, "cannot be used: Unexpected content type: text/html"),
    "no JSON": ({"kind": "application/json", "body": b"{"}, "cannot be used: "),
    "17 MB": (
        {"kind": "application/json", "body": b"[" * (17 << 20)},
        "sent more than 16,777,216 bytes in one response",
    ),
}


@pytest.mark.parametrize("which", ANSWERS)
def test_what_is_no_mcp_server_is_an_error(which):
    attributes, wanted = ANSWERS[which]
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answers,), attributes))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(edge.ToolError) as error, edge.mcp(f"http://127.0.0.1:{server.server_port}/mcp"):
            pass
    finally:
        server.shutdown()
        server.server_close()
    assert str(error.value).startswith(f"the MCP server 127.0.0.1 {wanted}")
    assert error.value.hint
