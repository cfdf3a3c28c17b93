"""Five public MCP servers: their tools are listed, and called in `edge chat`. tests/environments/mcp.sh installs them
in the folder that MCP_SERVERS names."""

import io
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import edge
from edge.cli import main

pytestmark = pytest.mark.mcp_servers
PLACE = Path(os.environ.get("MCP_SERVERS", "."))
PYTHON, NODE = PLACE / "servers" / "bin", PLACE / "node" / "node_modules" / ".bin"

# FOLDER has a repository with one commit, and ferries.txt; PORT serves it.
SERVERS = {
    "time": ([f"{PYTHON}/mcp-server-time", "--local-timezone", "Europe/Paris"], 2),
    "git": ([f"{PYTHON}/mcp-server-git", "--repository", "FOLDER"], 12),
    "fetch": ([f"{PYTHON}/mcp-server-fetch", "--ignore-robots-txt", "--allow-private-ips"], 1),
    "filesystem": ([f"{NODE}/mcp-server-filesystem", "FOLDER"], 14),
    "memory": ([f"{NODE}/mcp-server-memory"], 9),
}
CALLS = {
    "time": ("get_current_time", {"timezone": "Asia/Tokyo"}, "+09:00"),
    "git": ("git_log", {"repo_path": "FOLDER"}, "Message: the first commit"),
    "fetch": ("fetch", {"url": "http://127.0.0.1:PORT/ferries.txt"}, "leave at nine"),
    "filesystem": ("read_text_file", {"path": "FOLDER/ferries.txt"}, "leave at nine"),
    "memory": (
        "create_entities",
        {"entities": [{"name": "Ada", "entityType": "person", "observations": ["likes ferries"]}]},
        "likes ferries",
    ),
}


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "files"
    found.mkdir()
    (found / "ferries.txt").write_text("Ferries leave at nine.\n")
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.invalid"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "the first commit"]):
        subprocess.run([*git, *words], cwd=found, check=True)
    return found


@contextmanager
def served(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def configuration(name, folder, **settings):
    command, *arguments = (word.replace("FOLDER", str(folder)) for word in SERVERS[name][0])
    environment = {"MEMORY_FILE_PATH": str(folder.parent / "memory.json")}
    return {"mcpServers": {name: {"command": command, "args": arguments, "env": environment} | settings}}


@pytest.mark.parametrize("name", SERVERS)
def test_its_tools_are_listed(name, folder):
    with edge.mcp(configuration(name, folder)) as servers:
        tools = servers.tools()
    print(f"\n{name}: {', '.join(tool.name for tool in tools)}")
    assert len(tools) >= SERVERS[name][1]
    assert all(tool.description and tool.parameters["type"] == "object" for tool in tools)


@pytest.mark.parametrize("name", SERVERS)
def test_its_tools_are_called_in_a_chat(name, folder, bare_folder, monkeypatch, capsys):
    """The model is scripted: it calls the tool, and answers once the result is in its prompt."""
    tool, arguments, wanted = CALLS[name]
    place = folder.parent
    with served(folder) as port:
        text = json.dumps(arguments).replace("FOLDER", str(folder)).replace("PORT", str(port))
        rules = [{"when": wanted, "reply": "\nI see."}, {"reply": f"{tool}\n{text}"}]
        (place / "script.jsonl").write_text("".join(f"{json.dumps(rule)}\n" for rule in rules))
        (place / "mcp.json").write_text(json.dumps(configuration(name, folder, allow=[tool])))
        monkeypatch.setattr(sys, "stdin", io.StringIO("Go on"))
        device = f"echo:{place}/script.jsonl"
        assert main(["chat", str(bare_folder.path), "--device", device, "--mcp", str(place / "mcp.json")]) == 0
    assert capsys.readouterr().out == "I see.\n"


@pytest.mark.parametrize("name", sorted(SERVERS.keys() - {"fetch"}))  # it never ends a URL
def test_the_embedded_checkpoint_calls_its_tools(name, folder, demo_folder):
    """With arguments of the model's own, which the tool's schema constrains. Some are too long for it to end."""
    called = []
    with edge.Chat(demo_folder, tools=[edge.mcp(configuration(name, folder))], device="CPU", max_rounds=1) as chat:
        for tool in [tool for tool in chat.tools.values() if tool.read_only][:3]:
            chat.reset()
            chat.send("Who are you?", tools=[tool], tool_choice=tool.name, max_new_tokens=300)
            if (result := chat.history[-1]).role == "tool":
                called.append(tool.name)
                assert not re.search(r"Traceback|did not finish|MCP server", result.content)
    print(f"\n{name}: {', '.join(called)}")
    assert called
