"""Without its extra, a command says in one line what to install; a chat needs none."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge.demo import CHECKPOINT

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (  # of all the extras
    "accelerate bm25s bs4 charset_normalizer docx gguf httpx2 huggingface_hub intel_extension_for_pytorch llguidance "
    "mcp nncf openpyxl optimum PIL pptx prometheus_client pypdf starlette tokenizers torch transformers uvicorn"
)
BARE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
sys.modules.update(dict.fromkeys(sys.argv.pop(1).split()))  # none of them can be imported
from edge.cli import main
sys.exit(main())
"""
CHECK = str(CHECKPOINT)
NEEDS = {  # MODEL is a model folder, DOCS a folder with a text, GGUF an empty file
    "demo": (["demo"], "convert"),
    "convert": (["convert", CHECK, "out"], "convert"),
    "convert, by a name": (["convert", "zai-org/GLM-4-9B-0414", "out"], "convert"),
    "convert, from GGUF": (["convert", "GGUF", "out"], "convert"),
    "adopt": (["adopt", CHECK], "convert"),
    "chat on PyTorch": (["chat", CHECK, "--device", "torch"], "torch"),
    "chat on PyTorch, by a name": (["chat", "GLM-4-9B-0414", "--device", "torch:cpu"], "torch"),
    "chat on a server": (["chat", "MODEL", "--device", "http://127.0.0.1:9"], "remote"),
    "complete on a server": (["complete", "MODEL", "--prompt", "a", "--device", "http://127.0.0.1:9"], "remote"),
    "bench on PyTorch": (["bench", CHECK, "--device", "torch"], "torch"),
    "eval": (["eval", "MODEL", "--against", CHECK], "convert"),
    "chat with a document": (["chat", "MODEL", "--file", "a.pdf"], "documents"),
    "serve with documents": (["serve", "MODEL", "--docs", "DOCS"], "serve"),
    "research": (["research", "When?", "--model", "MODEL", "--docs", "DOCS"], "documents"),
    "serve": (["serve", "MODEL"], "serve"),
    "mcp": (["mcp", "MODEL"], "mcp"),
    "tools of MCP servers": (["chat", "MODEL", "--mcp", "mcp.json"], "mcp"),
    "batch": (["batch", "in.jsonl", "out.jsonl", "--model", "MODEL"], "serve"),
    "export-template": (["export-template", CHECK], "convert"),
}
NONE = {
    "models": ["models"],
    "recipes": ["recipes"],
    "chat": ["chat", "MODEL"],
    "inspect": ["inspect", "MODEL"],
    "service": ["service", "install", "MODEL", "--print"],
    "doctor": ["doctor", "MODEL"],
}


def run(folder, tmp_path, arguments, packages=PACKAGES):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "tides.md").write_text("# Tides")
    (tmp_path / "a.gguf").write_text("")
    (tmp_path / "a.pdf").write_text("%PDF-1.4")
    (tmp_path / "mcp.json").write_text('{"url": "http://127.0.0.1:9/mcp", "allow": ["*"]}')
    places = {"MODEL": str(folder.path), "DOCS": "docs", "GGUF": "a.gguf"}
    return subprocess.run(
        [sys.executable, "-c", BARE, str(ROOT), packages, *(places.get(word, word) for word in arguments)],
        input="Who are you?",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "extra"), NEEDS.values(), ids=NEEDS.keys())
def test_a_missing_extra_is_named(demo_folder, tmp_path, arguments, extra):
    done = run(demo_folder, tmp_path, arguments)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: .+\nhint: .*\[{extra}\].*\n", done.stderr), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("arguments", NONE.values(), ids=NONE.keys())
def test_what_needs_no_extra(demo_folder, tmp_path, arguments):
    done = run(demo_folder, tmp_path, arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_gguf_needs_its_own(demo_folder, tmp_path):
    done = run(demo_folder, tmp_path, ["convert", "GGUF", "out"], packages="gguf")
    assert re.fullmatch(r"error: .+\nhint: .*\[gguf\].*\n", done.stderr), done.stderr
