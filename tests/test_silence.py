"""Nothing leaves the machine that nobody asked for, and nothing is left in the user's home: every verb of the command
line and the public API, in every process that they start. `-s` prints the figure.
"""

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from edge.cli import parser
from edge.demo import CHECKPOINT

from .audit import Place
from .serving import free_port

EDGE = ("-m", "edge")
# MODEL is a model folder of the embedded checkpoint, CHECKPOINT a copy of that, DOCS a folder with a text,
# FOREIGN the model folder as another program would leave it.
VERBS = {
    "demo": [["demo", "--keep", "kept"]],
    "models": [["models"], ["models", "--json"]],
    "run": [["run", "MODEL", "Who are you?"]],
    "pull": [["pull", "GLM-4-9B-0414"]],  # of a model that is there
    "list": [["list"], ["list", "--json"]],
    "show": [["show", "GLM-4-9B-0414"]],
    "rm": [["rm", "GLM-4-9B-0414", "--yes"]],
    "recipes": [["recipes"], ["recipes", "CHECKPOINT"]],
    "convert": [["convert", "CHECKPOINT", "int8", "--recipe", "int8", "--quiet"]],
    "adopt": [["adopt", "FOREIGN", "adopted"], ["adopt", "FOREIGN"]],
    "chat": [
        ["chat", "MODEL"],
        ["chat", "MODEL", "--device", "CPU"],
        ["chat", "MODEL", "--mcp", "mcp.json"],
        ["chat", "CHECKPOINT", "--device", "torch:cpu", "--max-new-tokens", "4"],
    ],
    "complete": [["complete", "MODEL", "--prompt", "Once", "--max-new-tokens", "4"]],
    "inspect": [["inspect", "MODEL"]],
    "kernel": [],  # it needs a compiler: tests/test_int4_kernel.py
    "bench": [["bench", "MODEL", "--prompt-tokens", "32", "--new-tokens", "4", "--runs", "1"]],
    "eval": [
        ["eval", "MODEL", "--texts", "DOCS/texts.jsonl", "--context", "64", "--new-tokens", "4", "--out", "report"]
    ],
    "research": [["research", "When?", "--model", "MODEL", "--docs", "DOCS", "--rounds", "1", "--max-tokens", "8"]],
    "serve": [],  # below: it listens, and is asked
    "service": [["service", "install", "MODEL", "--print"]],
    "mcp": [["mcp", "MODEL", "--documents", "DOCS"]],
    "batch": [["batch", "DOCS/requests.jsonl", "results.jsonl", "--model", "MODEL"]],
    "devices": [["devices"]],
    "doctor": [["doctor", "MODEL"]],
    "cache": [["cache"], ["cache", "--clear"]],
    "bundle": [],  # it downloads: tests/environments/bundle.sh
    "upgrade": [["upgrade", "MODEL"]],
    "data": [["data"], ["data", "--json"]],
    "export-template": [["export-template", "CHECKPOINT"]],
}
EXTRAS = {
    "torch:cpu": "torch",
    "research": "bm25s",
    "--documents": "mcp",
    "--mcp": "mcp",
    "eval": "nncf",
    "convert": "nncf",
    "adopt": "nncf",
    "demo": "nncf",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo_folder):
    place = Place(tmp_path_factory.mktemp("silence"))
    place.environment()
    shutil.copytree(CHECKPOINT, place.work / "checkpoint")
    shutil.copytree(demo_folder.path, place.work / "foreign", ignore=shutil.ignore_patterns("edge.json"))
    server = [sys.executable, "-S", str(Path(__file__).resolve().parent / "hostile_mcp_server.py")]
    entry = {"command": server[0], "args": server[1:], "allow": ["speak"]}
    (place.work / "mcp.json").write_text(json.dumps({"mcpServers": {"talk": entry}}))
    (place.work / "docs").mkdir()
    (place.work / "docs" / "texts.jsonl").write_text('{"text": "The tide is highest at full moon."}\n')
    body = {"messages": [{"role": "user", "content": "When?"}], "max_tokens": 4}
    request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (place.work / "docs" / "requests.jsonl").write_text(json.dumps(request))
    (place.work / "docs" / "tides.md").write_text("# Tides\n\nThe tide is highest at full moon.\n")
    yield place
    asked, left = place.asked, place.left()
    print(
        f"\nover {place.processes} processes, all verbs and the API: {len(asked)} connections and look-ups, "
        f"{len(left)} files outside our folders"
    )


def silent(place):
    assert (place.asked, place.left()) == ([], [])


def test_every_verb_has_its_line():
    (verbs,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert set(verbs.choices) == set(VERBS)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [line for lines in VERBS.values() for line in lines], ids=" ".join)
def test_a_verb_asks_nobody_and_leaves_nothing(place, demo_folder, arguments):
    for word, package in EXTRAS.items():
        if word in arguments:
            pytest.importorskip(package)
    names = {"MODEL": str(demo_folder.path), "CHECKPOINT": "checkpoint", "DOCS": "docs", "FOREIGN": "foreign"}
    words = [re.sub("|".join(names), lambda found: names[found[0]], word) for word in arguments]
    stored = place.work / "models" / "GLM-4-9B-0414@int4"
    if not stored.exists():
        shutil.copytree(demo_folder.path, stored)
    before = place.processes
    place.python(*EDGE, *words, text="Who are you?", more={"EDGE_MODELS": "models"})
    assert place.processes > before
    silent(place)


API = """
import edge
from edge.research import ResearchSession
from runtime.backends.backend import Request
from runtime.backends.openvino.process.backend import SubprocessBackend

folder = edge.ModelFolder.open({folder!r})
def hour() -> int:
    "The hour"
    return 12
with edge.Chat(folder, tools=[hour], device="CPU", strict=True) as chat:
    assert chat.send("Who are you?").text
    chat.send("And?", answer=edge.Choice(("yes", "no")))
if __name__ == "__main__":
    engine = SubprocessBackend.load(folder, "CPU", edge.Options())
    assert engine.count_tokens(("a",))
    engine.close()
"""


@pytest.mark.slow
def test_the_public_api_asks_nobody_and_leaves_nothing(place, demo_folder):
    script = place.work / "application.py"
    script.write_text(API.format(folder=str(demo_folder.path)))
    before = place.processes
    place.python(str(script))
    assert place.processes >= before + 2  # the application, and the engine's process
    silent(place)


MODULES = ["edge", "runtime.backends.openvino.genai", "convert.graph", "convert.output.tokenizer", "edge.demo"]


@pytest.mark.parametrize("module", MODULES)
def test_whichever_module_is_imported_first(place, module):
    if module.startswith("convert"):
        pytest.importorskip("nncf")
    place.python("-c", f"import {module}, openvino, openvino_genai")
    silent(place)


@pytest.mark.slow
def test_a_server_hears_its_clients_alone(place, demo_folder):
    pytest.importorskip("uvicorn")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, *EDGE, "serve", str(demo_folder.path), "--port", str(port), "--device", "CPU"]
    place.allowed.append(rf"socket\.getaddrinfo \['127\.0\.0\.1', {port}, .*")  # its own address
    server = subprocess.Popen(command, env=place.environment(), cwd=place.work, stdout=subprocess.PIPE, text=True)
    try:
        assert any("127.0.0.1" in line for line in server.stdout)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        body = json.dumps({"messages": [{"role": "user", "content": "Who are you?"}]}).encode()
        ask = urllib.request.Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
        with direct.open(ask, timeout=60) as answer:
            assert json.load(answer)["choices"]
        with direct.open(f"{url}/chat", timeout=60) as page:
            assert page.status == 200
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    silent(place)
