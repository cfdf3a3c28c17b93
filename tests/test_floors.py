"""Imports point down: edge -> convert -> runtime, and by LAYERS within each, without circles. Engines are imported by
those who need them, when they do.
"""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"runtime": {"runtime"}, "convert": {"runtime", "convert"}, "edge": {"runtime", "convert", "edge"}}
HEAVY = (
    "prompt_toolkit markdown_it "
    "torch transformers nncf openvino openvino_genai openvino_tokenizers tokenizers pydantic jinja2 rich numpy "
    "httpx2 mcp mcp_types anyio bm25s bs4 docx openpyxl pptx pypdf llguidance starlette uvicorn prometheus_client PIL "
    "soundfile soxr"
).split()
# Files and folders of each package, from the bottom to the top: each may import those of the lines above its own.
LAYERS = {
    "runtime": """
        errors text version
        strict_json checks docstrings picture_size
        system
        pictures isolation
        events
        messages sampling grammar vocabulary cancellation chat_templates tool_output citations
        tool_run
        folder
        tools prompt history
        tool_call toolbox
        checkpoint
        progress source device
        backends
        reply retrieval
        speech
        documents
        model
        context_window
        turn
        chat
        async_chat
    """,
    "convert": """
        recipe output samples
        graph
        vision
        parts
        check
        weights
        estimate
        job
        source
        pipeline adopt_encoder
        adopt_speech
        adopt
    """,
    "edge": """
        import_path __pyinstaller
        catalogue documents demo bench export user_services
        service store tuning
        hub mcp_client mcp_server research evaluation server testing toolkit
        conversion inspection
        pull
        folder_upgrade bundle config
        diagnostics
        cli demo.training
        __main__
    """,
}
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


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported(name):
    """Our modules that a module imports, wherever in it, but for its types."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    waiting = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                target = f"{source}.{alias.name}"
                if (found := target if target in MODULES else source) in MODULES and found != name:
                    yield found


GRAPH = {name: set(imported(name)) for name in MODULES}


def test_no_circle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as exc:
        pytest.fail(f"imports in a circle: {' -> '.join(exc.args[1])}")


@pytest.mark.parametrize("package", LAYERS)
def test_imports_point_down_within(package):
    lines = [line.split() for line in LAYERS[package].strip().splitlines()]
    height = {f"{package}.{unit}": level for level, line in enumerate(lines) for unit in line}

    def unit(module):
        return max((one for one in height if f"{module}.".startswith(f"{one}.")), key=len, default="")

    ours = [name for name in MODULES if name.startswith(f"{package}.") and MODULES[name].name != "__init__.py"]
    assert [name for name in ours if not unit(name)] == [], "missing in LAYERS"
    up = [
        f"{name} -> {other}"
        for name in ours
        for other in GRAPH[name]
        if unit(other) and unit(name) != unit(other) and height[unit(other)] >= height[unit(name)]
    ]
    assert up == []


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
