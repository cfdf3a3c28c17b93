"""`edge mcp`: a model and documents as an MCP server, which our own chat uses."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import edge
from edge.cli import main

from .serving import free_port
from .test_mcp import call, names

pytest.importorskip("mcp")
pytest.importorskip("bm25s")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "ferries.md").write_text("# Ferries\n\nFerries leave at nine.\n")
    return folder


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.jsonl"
    path.write_text('{"when": ["Briefly", "Who are you?"], "reply": "\\nA model."}\n{"reply": "\\nHello."}\n')
    return f"echo:{path}"


def command(*arguments, **settings):
    return {"command": sys.executable, "args": ["-m", "edge", "mcp", *arguments], "cwd": str(ROOT), **settings}


def test_a_model_and_documents(bare_folder, documents, script):
    arguments = (str(bare_folder.path), "--documents", str(documents), "--device", script)
    with edge.mcp(command(*arguments)) as servers:
        assert names(servers) == ["ask", "search_documents", "open_document"]
        assert all(tool.read_only for tool in servers.tools())
        assert "tiny" in servers.tools()[0].description
        assert call(servers, "ask", question="Hi").content == "Hello."
        assert call(servers, "ask", question="Who are you?", system="Briefly").content == "A model."
        found = call(servers, "search_documents", query="when do ferries leave")
        assert found.content == "ferries.md: Ferries, lines 1-3\n# Ferries Ferries leave at nine."
        assert call(servers, "search_documents", query="zebra").content == "No page has any of these words."
        assert call(servers, "open_document", address="ferries.md").content.endswith("Ferries leave at nine.")
        missing = call(servers, "open_document", address="../secret")
        assert missing.error
        assert "there is no page '../secret'" in missing.content


def test_documents_over_http(documents, tmp_path):
    port = free_port()
    words = [sys.executable, "-m", "edge", "mcp", "--documents", str(documents), "--http", str(port)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log) as process:
        try:
            for _ in range(300):
                assert process.poll() is None, (tmp_path / "log").read_text()
                with suppress(edge.ToolError), edge.mcp(f"http://127.0.0.1:{port}/mcp") as servers:
                    assert names(servers) == ["search_documents", "open_document"]
                    break
                time.sleep(0.2)
            else:
                pytest.fail((tmp_path / "log").read_text())
        finally:
            process.terminate()


UNUSABLE = {
    "nothing": ([], "there is nothing to offer"),
    "no folder": (["./nowhere"], "there is no folder"),
    "no documents": (["--documents", "./nowhere"], "there is no folder 'nowhere'"),
}


@pytest.mark.parametrize("which", UNUSABLE)
def test_what_cannot_be_offered_is_an_error(which, capsys):
    arguments, wanted = UNUSABLE[which]
    assert main(["mcp", *arguments]) == 1
    assert wanted in capsys.readouterr().err
