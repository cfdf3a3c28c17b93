"""Imports point down: edge -> convert -> runtime. Engines are imported by those who need them, when they do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"runtime": {"runtime"}, "convert": {"runtime", "convert"}, "edge": {"runtime", "convert", "edge"}}
HEAVY = (
    "torch transformers nncf openvino openvino_genai openvino_tokenizers tokenizers pydantic jinja2 rich numpy "
    "httpx2 llguidance starlette uvicorn prometheus_client"
).split()
FILES = sorted(path for package in FLOORS for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    floor = path.relative_to(ROOT).parts[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level == 0
            else []
        )
        for name in names:
            top = name.split(".")[0]
            assert top not in FLOORS or top in FLOORS[floor], f"{path} imports {name}"
            assert top != floor, f"{path}: relative inside a folder"


@pytest.mark.parametrize("module", ["edge", "edge.cli"])
def test_importing_edge_loads_no_engine(module):
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_markers_of_a_prompt_format_stand_only_in_its_family():
    elsewhere = [p for p in FILES if "families" not in p.parts and "demo" not in p.parts]
    for path in elsewhere:
        code = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(code)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(code):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                assert not any(mark in node.value for mark in ("<|", "<think>", "[gMASK]")), f"{path}: {node.value!r}"


def test_another_package_that_hides_ours_is_named(tmp_path):
    (tmp_path / "runtime.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import edge"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert f"{tmp_path / 'runtime.py'} hides it" in done.stderr
