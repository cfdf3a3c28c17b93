"""The tools that ship: by name, from Python, in the terminal and on the page."""

import io
import json
import os
import sys
import time
from contextlib import closing

import numpy as np
import pytest

import edge
from edge.cli.tool_calls import CallApproval
from edge.config.named_tools import load_tools
from edge.config.tool_sections import ToolsSection
from edge.testing import Echo, echo_model
from edge.toolkit.builtin import BUILTIN
from edge.toolkit.folder_files import MAX_BYTES
from edge.toolkit.python_tool import PythonTool
from runtime.isolation.session import SessionLimits
from runtime.tool_call import run_call

from .serving import scripted
from .test_approval import begin, named, post
from .test_tool_calls import answer, write_script

linux = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux'")


def call(tools, name, **arguments):
    box = {tool.name: tool for tool in tools}
    result = run_call(box, edge.ToolCall(name, json.dumps(arguments), "1"))
    return result.content.removeprefix("Error: ")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", "7"),
        ("(3 + 4) ^ 2", "49"),
        ("2 ** 10", "1024"),
        ("0.1 + 0.2", "0.3"),
        ("10 / 4", "2.5"),
        ("-7 // 2", "-4"),
        ("7 % 4", "3"),
        ("6 × 7 − 2 ÷ 1", "40"),
        ("sqrt(2)", "1.4142135623731"),
        ("round(pi, 2)", "3.14"),
        ("factorial(20)", "2432902008176640000"),
        ("max(1, 2, 3)", "3"),
        ("2 ** -1", "0.5"),
        ("9**9**9", "a number is too large"),
        ("9**9**9**9**9", "a number is too large"),
        ("10.0 ** 400", "a number is too large"),
        ("factorial(10**9)", "a number is too large"),
        ("2**9999 * 2**9999", "a number is too large"),
        ("1e999", "a number is too large"),
        ("round(5, -10**9)", "round takes a whole number of digits from -300 to 300"),
        ("1 / 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("sqrt(-1)", "the value is not a real number"),
        ("(-8) ** 0.5", "the value is not a real number"),
        ("sqrt(1, 2)", "sqrt does not accept these arguments"),
        ("__import__('os')", "\"__import__('os')\" is not an arithmetic expression"),
        ("x + 1", "'x + 1' is not an arithmetic expression"),
        ("'a' * 10", "\"'a' * 10\" is not an arithmetic expression"),
        ("[1]", "'[1]' is not an arithmetic expression"),
        ("True + 1", "'True + 1' is not an arithmetic expression"),
        ("1 +", "'1 +' is not an arithmetic expression"),
        ("", "'' is not an arithmetic expression"),
        ("1 if 1 else 2", "'1 if 1 else 2' is not an arithmetic expression"),
        ("1" * 1001, "the expression is longer than 1,000 characters"),
    ],
)
def test_the_calculator(expression, value):
    found = call(edge.builtin_tools("calculator"), "calculator", expression=expression)
    assert found.startswith(value)


def test_deep_expressions_are_refused():
    for expression in ("(" * 400 + "1" + ")" * 400, "-" * 990 + "1"):
        found = call(edge.builtin_tools("calculator"), "calculator", expression=expression)
        assert found in ("1", "-1") or "is not an arithmetic expression" in found


def test_the_clock():
    tools = edge.builtin_tools("clock")
    assert "UTC+0000" in call(tools, "clock", zone="UTC")
    for zone in ("Nowhere/At all", "../../etc/passwd", "/etc/localtime", "\0"):
        assert "there is no time zone" in call(tools, "clock", zone=zone)
    assert "UTC" in call(tools, "clock")


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("a secret")
    (tmp_path / "files-2").mkdir()
    (tmp_path / "files-2" / "other.txt").write_text("a secret")
    (folder / "a.txt").write_text("one\ntwo\nthree\n")
    (folder / "sub" / "b.md").write_text("# b")
    (folder / "long.txt").write_text("\n".join(f"line {n}" for n in range(1, 2501)))
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10)
    (folder / "large.txt").write_bytes(b"x" * (MAX_BYTES + 1))
    (folder / "utf16.txt").write_bytes("grüß".encode("utf-16"))
    if sys.platform != "win32":
        (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
        (folder / "up").symlink_to(tmp_path)
        (folder / "loop").symlink_to(folder / "loop")
        (folder / "inside.txt").symlink_to(folder / "a.txt")
        os.mkfifo(folder / "pipe")
        (folder / "device").symlink_to("/dev/zero")
    return folder


READS = {
    "a.txt": "one\ntwo\nthree",
    "sub/b.md": "# b",
    "./sub\\b.md": "# b",
    "utf16.txt": "grüß",
    "picture.png": "is not a text file",
    "large.txt": "is larger than 1 MB",
    "none.txt": "there is no file",
    "sub": "is not a file",
    "": "is not a file",
    "../secret.txt": "is not a path in the folder",
    "sub/../../secret.txt": "is not a path in the folder",
    "a.txt\0": "is not a path in the folder",
    "/etc/passwd": "is not a path in the folder",
    "x" * 5000: "there is no file",
}
LINKS = {
    "inside.txt": "one\ntwo\nthree",
    "out.txt": "leads out of the folder",
    "up/secret.txt": "leads out of the folder",
    "up/files-2/other.txt": "leads out of the folder",
    "loop": "there is no file",
    "pipe": "is not a file",
    "device": "leads out of the folder",
}


@pytest.mark.parametrize("path", [*READS, *LINKS])
def test_files_are_those_of_the_folder(path, files):
    if sys.platform == "win32" and path in LINKS:
        pytest.skip("links need a right on Windows")
    found = call(edge.builtin_tools("read_file", folder=files), "read_file", path=path)
    assert (READS | LINKS)[path] in found
    assert "secret\n" not in found
    assert "a secret" not in found
    assert "\n" not in found or "two" in found


def test_long_files_are_read_in_parts(files):
    tools = edge.builtin_tools("read_file", "list_files", folder=files)
    assert call(tools, "read_file", path="long.txt").endswith(
        "line 1000\n[1,500 further lines: read on from line 1001]"
    )
    assert call(tools, "read_file", path="long.txt", first_line=2400).endswith("line 2500")
    assert "has the lines 1 to 2,500" in call(tools, "read_file", path="long.txt", first_line=2501)
    (files / "wide.txt").write_text("x" * 100_000)
    assert len(call(tools, "read_file", path="wide.txt")) < 41_000


def test_a_folder_is_listed(files):
    tools = edge.builtin_tools("list_files", folder=files)
    shown = call(tools, "list_files").splitlines()
    assert "a.txt (14 bytes)" in shown
    assert "sub/" in shown
    assert not [line for line in shown if line.startswith(("out", "up", "device", "pipe"))]
    assert call(tools, "list_files", path="sub") == "sub/b.md (3 bytes)"
    for path, part in (("a.txt", "is not a folder"), ("..", "is not a path"), ("none", "there is no file")):
        assert part in call(tools, "list_files", path=path)
    for number in range(600):
        (files / "sub" / f"{number}.txt").touch()
    assert call(tools, "list_files", path="sub").endswith("[only the first 500 are shown]")


def test_documents_are_searched(tmp_path):
    pytest.importorskip("bm25s")
    (tmp_path / "fares.md").write_text("# Fares\n\nA crossing costs 12 crowns.")
    tools = edge.builtin_tools("search_documents", folder=tmp_path)
    assert [tool.name for tool in tools] == ["search_documents", "open_document"]
    assert "12 crowns" in call(tools, "search_documents", query="crossing")


@pytest.mark.parametrize(
    ("names", "settings", "part"),
    [
        (["pyhton"], {}, "there is no tool 'pyhton'"),
        (["read_file"], {}, "the tool read_file has no folder"),
        (["search_documents"], {}, "the tool search_documents has no folder"),
        (["list_files"], {"folder": "./none at all"}, "there is no folder"),
    ],
)
def test_what_cannot_be_is_refused(names, settings, part):
    with pytest.raises(edge.RequestError) as raised:
        edge.builtin_tools(*names, **settings)
    assert part in str(raised.value)
    assert raised.value.hint


def test_names_and_functions_mix():
    tools = load_tools(["clock", "tests.test_approval:add"], ToolsSection())
    assert [tool.name for tool in tools] == ["clock", "add"]
    assert set(BUILTIN) >= {"python", "calculator", "clock", "read_file", "list_files", "search_documents"}
    with pytest.raises(edge.ToolError, match="a person approves each call of the tool python, and nobody is there"):
        load_tools(["python"], ToolsSection(), unattended="nobody is there")
    assert load_tools(["python"], ToolsSection(yes=True), unattended="nobody is there")


@linux
def test_variables_live_on_between_calls_of_a_chat():
    scripts = ['python\n{"code": "x = 6"}', 'python\n{"code": "x * 7"}', "\n42.", 'python\n{"code": "x"}', "\nGone."]
    with edge.Chat(echo_model(Echo(scripts)), tools=edge.builtin_tools("python")) as chat:
        assert [result.content for result in chat.send("6 * 7?").tool_results] == ["[no output]", "42"]
        assert [result.content for result in chat.send("And x?").tool_results] == ["6"]


@linux
def test_the_model_is_told_what_is_lost():
    source = PythonTool(limits=SessionLimits(seconds=0.5))
    source.open()
    (tool,) = source.tools()
    try:
        assert call([tool], "python", code="x = 1; x") == "1"
        assert call([tool], "python", code="while True: pass") == (
            "the code ran longer than 0.5 seconds; the interpreter was restarted, and its variables and files are lost"
        )
        assert "NameError" in call([tool], "python", code="x")
    finally:
        source.close()
    assert call([tool], "python", code="1") == "the chat is closed"


@linux
def test_plots_are_pictures_of_the_result():
    pytest.importorskip("PIL")
    code = (
        "import io, zlib, struct\n"
        "class Plot:\n    def _repr_png_(self):\n"
        "        def part(kind, data): return struct.pack('>I', len(data)) + kind + data"
        " + struct.pack('>I', zlib.crc32(kind + data))\n"
        "        return b'\\x89PNG\\r\\n\\x1a\\n' + part(b'IHDR', struct.pack('>IIBBBBB', 2, 2, 8, 2, 0, 0, 0))"
        " + part(b'IDAT', zlib.compress(bytes(14))) + part(b'IEND', b'')\n"
        "print('drawn')\nPlot()"
    )
    calls = [f"python\n{json.dumps({'code': code})}", "\nSee."]
    with edge.Chat(echo_model(Echo(calls)), tools=edge.builtin_tools("python")) as chat:
        (result,) = chat.send("Draw").tool_results
    assert result.content == "drawn\n[1 picture, shown to the user]"
    assert np.array_equal(result.pictures[0].pixels(), np.zeros((2, 2, 3), np.uint8))


@linux
def test_each_conversation_of_a_page_has_its_variables(bare_folder):
    source = PythonTool()
    calls = ['python\n{"code": "x = 1"}', "\nYes.", 'python\n{"code": "x"}', "\nYes."]
    source.open()
    with closing(source), scripted(bare_folder, calls * 3, tools=(source,)) as (url, *_):
        for first, second, wanted in (("a" * 8, "a" * 8, "1"), ("b" * 8, "c" * 8, "NameError"), (None, None, "Name")):
            results = []
            for session in (first, second):
                _, messages, (asked,) = begin(url, session=session)
                events = post(url, messages=messages, decisions={asked: True}, session=session)
                results += [result["content"] for result in named(events, "tool_result")]
            assert wanted in results[1]
        end = time.monotonic() + 10  # the last reply's own session ends after its last event
        while len(source._sessions) > 3 and time.monotonic() < end:
            time.sleep(0.05)
        assert sorted(source._sessions) == ["a" * 8, "b" * 8, "c" * 8]


ANSWERS = {
    "yes": (["y\n"], [True]),
    "no": (["n\n"], [False]),
    "nothing": (["\n"], [False]),
    "always": (["a\n"], [True, True]),
}


@linux
@pytest.mark.parametrize("which", ANSWERS)
def test_a_person_approves_the_code(which, capsys, monkeypatch):
    lines, wanted = ANSWERS[which]
    approval = CallApproval()
    code = edge.ToolCall("python", json.dumps({"code": "x = 1\nprint(\u202ex)\n"}), "1")
    with edge.Chat(echo_model(Echo()), tools=edge.builtin_tools("python", "clock"), approve=approval) as chat:
        approval.chat = chat
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(lines)))
        assert [approval(code) for _ in wanted] == wanted
        assert approval(edge.ToolCall("clock", "{}", "2"))
    err = capsys.readouterr().err
    assert err.startswith("python:\n    x = 1\n    print(\\u202ex)\nRun it? [y]es, [n]o, [a]lways: ")


@linux
def test_a_pipe_runs_python_only_with_yes(bare_folder, tmp_path, capsys, monkeypatch):
    device = write_script(
        tmp_path, {"when": "1764", "reply": "\nIt is 1764."}, {"reply": 'python\n{"code": "42 ** 2"}'}
    )
    model = (str(bare_folder.path), "--device", device, "--tool", "python")
    code, _, err = answer(capsys, monkeypatch, *model)
    assert code == 1
    assert "a person approves each call of the tool python, and nobody approves calls without a terminal" in err
    assert answer(capsys, monkeypatch, *model, "--yes") == (0, "It is 1764.\n", "")


def test_elsewhere_python_is_off_unless_it_is_allowed(monkeypatch):
    from runtime.isolation import session

    session.find_confinement.cache_clear()
    monkeypatch.setattr(session, "CONFINED", ())
    try:
        with pytest.raises(edge.ToolError) as raised:
            edge.Chat(echo_model(), tools=edge.builtin_tools("python"))
        assert "needs a sandbox" in str(raised.value)
        assert "allow" in raised.value.hint
        calls = ['python\n{"code": "import os; os.getcwd()"}', "\nHere."]
        tools = edge.builtin_tools("python", allow_unsandboxed=True)
        with edge.Chat(echo_model(Echo(calls)), tools=tools) as chat:
            (result,) = chat.send("Where?").tool_results
        assert not result.error
        assert "edge-python-" in result.content
    finally:
        session.find_confinement.cache_clear()
