"""Coding agents against our server, as docs/agents.md sets them up: each of its sections is followed to the letter, in
one folder that is home and project. The model is scripted: an agent's own prompt is longer than the embedded
checkpoint's context. In the environment of tests/environments/agents.sh.
"""

import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
from contextlib import contextmanager
from threading import Thread

import pytest

from edge.demo import CHECKPOINT

from .serving import serving
from .test_docs import ROOT, blocks

TASK = "Create hello.txt with a greeting."
FILE = "Hello from GLM-4\n"
SECTIONS = dict(
    part.split("\n", 1) for part in re.split(r"^## ", (ROOT / "docs" / "agents.md").read_text("utf-8"), flags=re.M)[1:]
)
# The section: its program, what stands in the prompt where the tool is offered and once it was called, and the call.
# The former tells the task from other requests with its words, such as one for a title.
AGENTS = {
    "Claude Code": ("claude", "## Write", "File created successfully", ("Write", "file_path", "content")),
    "Codex CLI": ("codex", "## exec_command", "exited with code 0", ("exec_command", "cmd")),
    "opencode": ("opencode", "## write", "Wrote file successfully", ("write", "filePath", "content")),
    "aider": ("aider", "file listing", None, None),
    "Continue CLI": ("cn", "## Write", "Successfully created file", ("Write", "filepath", "content")),
}
ASKED_ELSEWHERE = {"opencode": {"registry.npmjs.org:443"}}  # docs/agents.md says so


def script(name, folder):
    _, offered, done, tool = AGENTS[name]
    path = str(folder / "hello.txt")
    if tool is None:
        reply = f"\nhello.txt\n```\n{FILE}```\n"
    else:
        values = [path, FILE] if len(tool) == 3 else [f"echo '{FILE.strip()}' > hello.txt"]
        arguments = json.dumps(dict(zip(tool[1:], values, strict=True)))
        reply = f"\nI will.<|assistant|>{tool[0]}\n{arguments}"
    rules = [{"when": [TASK, done], "reply": "\nAll is done."}] if done else []
    rules += [{"when": [TASK, offered], "reply": reply}, {"reply": "\nA greeting"}]
    return "\n".join(map(json.dumps, rules))


class Refusal(socketserver.StreamRequestHandler):
    """A proxy's answer to whoever wants to reach another machine: noted, and refused."""

    def handle(self):
        words = self.rfile.readline().decode().split()
        self.server.asked.add(words[1])
        self.wfile.write(b"HTTP/1.1 502 refused\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def refusing_proxy():
    """The environment that leads to a proxy, and the set of what was asked of it."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusal) as server:
        server.asked = set()
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        names = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": "127.0.0.1,localhost"}
        yield names | {name.lower(): value for name, value in names.items()}, server.asked
        server.shutdown()


@pytest.mark.agents
@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_does_a_task_with_its_file_tool(name, tmp_path):
    program = shutil.which(AGENTS[name][0])
    if program is None:
        pytest.skip("not in this environment")
    home, models = tmp_path / "home", tmp_path / "models"
    home.mkdir()
    models.mkdir()
    rules, log = tmp_path / "script.jsonl", tmp_path / "server.log"
    rules.write_text(script(name, home), encoding="utf-8")
    shutil.copytree(CHECKPOINT, models / "glm4-int4")
    command = [sys.executable, "-m", "edge", "serve", str(models / "glm4-int4"), "--device", f"echo:{rules}"]
    with serving(command, log) as url, refusing_proxy() as (proxied, asked):
        lines = ["set -eu"]
        for block in blocks(SECTIONS[name]):
            text = block.text.replace("http://127.0.0.1:8000", url)
            if block.language == "sh":
                lines.append(text)
            else:
                file = home / block.info
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8"} | proxied
        done = subprocess.run(
            ["bash", "-c", "\n".join(lines)],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    said = f"{done.stdout}\n{done.stderr}\n{log.read_text(errors='replace')}"[-8000:]
    assert done.returncode == 0, said
    assert (home / "hello.txt").is_file(), said
    assert (home / "hello.txt").read_text() == FILE
    if name != "aider":
        assert "All is done." in done.stdout, said
    assert asked <= ASKED_ELSEWHERE.get(name, set())
    statuses = re.findall(r" POST /\S+ (\d{3}) ", log.read_text(errors="replace"))
    assert len(statuses) >= (2 if AGENTS[name][2] else 1)
    assert set(statuses) == {"200"}


def test_every_agent_of_the_page_is_run():
    assert [*AGENTS, "A scripted model"] == list(SECTIONS)
    for name, (program, *_) in AGENTS.items():
        commands = "".join(block.text for block in blocks(SECTIONS[name]) if block.language == "sh")
        assert re.search(rf'^{program} .*"{re.escape(TASK)}"', commands, re.M), name
