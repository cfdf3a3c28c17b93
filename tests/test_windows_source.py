"""What Windows would stumble over, as far as the source shows it, or Linux can be made to behave so.

mypy checks the rest as Windows sees it: `mypy --platform win32`.
"""

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import pytest

from convert.output import ir_writer, scratch
from convert.output.ir_writer import IrWriter
from convert.output.scratch import ScratchFolder, refuse_impossible
from convert.pipeline import convert
from edge.demo import CHECKPOINT
from edge.user_services.windows_task import task_xml
from runtime.backends.child import interpreter
from runtime.errors import ConversionError, RequestError
from runtime.folder.model_folder import ModelFolder
from runtime.system import files
from runtime.system.files import rename_over, write_atomically
from runtime.system.windows_paths import name_problem, path_problem

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for package in ("edge", "convert", "runtime") for path in (ROOT / package).rglob("*.py"))
POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
PROGRAMS = ("run", "Popen", "check_output", "check_call")
MODE = re.compile(r"[rwxa][bt+]{0,2}")


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield node, name, {keyword.arg for keyword in node.keywords}


def mode(node, name):
    """The mode of a call that opens a file; None for another call of that name, such as a class's own `open`."""
    plain = isinstance(node.func, ast.Name) or name == "fdopen"
    given = node.args[plain:][:1]
    if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
        return given[0].value if MODE.fullmatch(given[0].value) else None
    return "r" if plain and not given else None


def problems(source):
    """The lines of a source that would fail on Windows, or read a text in the code page of a country."""
    tree = ast.parse(source)
    for node, name, keywords in calls(tree):
        if "encoding" not in keywords:
            if name == "write_text" or (name == "read_text" and not node.args):  # importlib.metadata's takes a name
                yield f"{node.lineno}: {name} without encoding"
            if name in ("open", "fdopen") and "b" not in (mode(node, name) or "b"):
                yield f"{node.lineno}: {name} without encoding"
            if keywords & {"text", "universal_newlines"} and name in PROGRAMS:
                yield f"{node.lineno}: the output of a program without encoding"
        if ast.unparse(node.func) == "os.rename" and "src_dir_fd" not in keywords:
            yield f"{node.lineno}: os.rename, which fails on Windows where the target exists: os.replace"
        if name == "TemporaryDirectory" and "ignore_cleanup_errors" not in keywords:
            yield f"{node.lineno}: TemporaryDirectory fails at its end where a file is still open"
        if name in ("guess_type", "guess_extension"):
            yield f"{node.lineno}: {name} asks Windows' registry"
        if name == "strftime" and any("%-" in ast.unparse(argument) for argument in node.args):
            yield f"{node.lineno}: %- is glibc's"
    yield from _imports(tree)


def test_no_library_takes_a_standard_stream_for_granted():
    """In a process of pythonw.exe, or a windowed application of PyInstaller's, sys.stdout and sys.stderr are None."""
    ours = ("edge/cli/", "edge/server/", "edge/demo/", "runtime/isolation/child.py")  # processes of our own
    for path in SOURCES:
        if not path.relative_to(ROOT).as_posix().startswith(ours):
            text = path.read_text(encoding="utf-8")
            for name in set(re.findall(r"sys\.(stdout|stderr|stdin)\.", text)):
                assert f"sys.{name} is not None" in text, path


def _imports(tree):
    """POSIX's own modules, imported for every system."""
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in POSIX_MODULES.intersection(names):
            yield f"{node.lineno}: import {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_depends_on_posix_or_a_code_page(path):
    assert list(problems(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("open('a')", 1),
        ("open('a', 'w')", 1),
        ("open('a', 'rb')", 0),
        ("open('a', encoding='utf-8')", 0),
        ("path.open('w')", 1),
        ("Model.open('folder')", 0),
        ("os.fdopen(1, 'w')", 1),
        ("path.read_text()", 1),
        ("metadata.read_text('INSTALLER')", 0),
        ("path.write_text('a', encoding='utf-8')", 0),
        ("subprocess.run(['a'], text=True)", 1),
        ("os.rename('a', 'b')", 1),
        ("TemporaryDirectory(dir=folder)", 1),
        ("TemporaryDirectory(ignore_cleanup_errors=True)", 0),
        ("import fcntl", 1),
        ("def f():\n    import fcntl", 0),
        ("time.strftime('%-d')", 1),
        ("mimetypes.guess_type('a.js')", 1),
    ],
)
def test_the_rules_find_what_they_are_for(source, found):
    assert len(list(problems(source))) == found


def test_windows_can_check_out_every_file():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    names = listed.stdout.splitlines()
    if listed.returncode or not names:
        pytest.skip("not a clone")
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert len(name) < 150, name
        assert not any(map(name_problem, name.split("/"))), name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("glm4-int4", ""),
        ("模型", ""),
        ("auxiliary", ""),
        ("com", ""),
        ("aux", "the name of a device"),
        ("AUX.int4", "the name of a device"),
        ("Con", "the name of a device"),
        ("nul.txt", "the name of a device"),
        ("lpt1", "the name of a device"),
        ("glm:int4", "has no ':'"),
        ("what?", "has no '?'"),
        ("a\x1fb", r"has no '\x1f'"),
        ("glm4.", "drops a blank or a dot"),
        ("glm4 ", "drops a blank or a dot"),
        ("..", ""),
    ],
)
def test_names_that_windows_cannot_have(name, problem):
    assert problem in name_problem(name)
    assert bool(name_problem(name)) == bool(problem)


def test_paths_that_are_too_long():
    short = PureWindowsPath("C:\\models\\glm4")
    assert path_problem(short, 80) == ""
    assert "too long" in path_problem(PureWindowsPath("C:\\", *["folder"] * 30), 80)
    assert path_problem(PureWindowsPath("\\\\server\\share\\glm4"), 80) == ""
    assert "a device" in path_problem(PureWindowsPath("C:\\models\\nul"))


def test_a_conversion_to_such_a_name_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="a device on Windows"):
        refuse_impossible(tmp_path / "aux")
    with pytest.raises(ConversionError, match="too long for Windows"):
        refuse_impossible(tmp_path / ("x" * 250))
    refuse_impossible(Path("/models/glm4"))


def test_the_longest_name_of_a_conversion_has_room():
    """`.NAME.partial-PID-START/FILE`, and what verification adds."""
    longest = f"..partial-{2**32}-{2**34}/openvino_text_embeddings_model.bin"
    assert len(longest) < scratch._LONGEST_NAME


# A file that a virus scanner, or another program, has open cannot be renamed.


@pytest.fixture
def scanner(monkeypatch):
    """A scanner that has each file open for the first so many attempts to rename it."""
    left = {"attempts": 0}
    real = Path.replace

    def replace(self, target):
        if left["attempts"]:
            left["attempts"] -= 1
            raise PermissionError(13, "The process cannot access the file because it is being used", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(files, "_RENAME_STEP", 0.01)
    return left


def test_a_rename_waits_for_a_scanner(tmp_path, monkeypatch, scanner):
    monkeypatch.setattr(files, "_RENAME_SECONDS", 5.0)
    scanner["attempts"] = 5
    write_atomically(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_rename_does_not_wait_for_ever(tmp_path, monkeypatch, scanner):
    monkeypatch.setattr(files, "_RENAME_SECONDS", 0.05)
    scanner["attempts"] = 10**6
    (tmp_path / "a").mkdir()
    with pytest.raises(PermissionError):
        rename_over(tmp_path / "a", tmp_path / "b")


# The python.exe of a virtual environment on Windows starts another process, and waits for it.


def test_the_engine_is_no_child_of_a_launcher(monkeypatch):
    """Its CPU time and memory are looked at: the launcher's would be those of nothing."""
    monkeypatch.setattr(sys, "executable", "C:\\venv\\Scripts\\python.exe")
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: sys.executable)
    monkeypatch.setattr(sys, "_base_executable", "C:\\Python311\\python.exe", raising=False)
    real = ("C:\\Python311\\python.exe", {"__PYVENV_LAUNCHER__": "C:\\venv\\Scripts\\python.exe"})
    assert interpreter(windows=True) == real
    assert interpreter(windows=False) == (sys.executable, {})
    monkeypatch.setattr(sys, "_base_executable", sys.executable)
    assert interpreter(windows=True) == (sys.executable, {})
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: "C:\\app\\python.exe")
    assert interpreter(windows=True) == ("C:\\app\\python.exe", {})


@dataclass
class Process:
    path: str
    above: "Process | None" = None

    def exe(self):
        return self.path

    def parent(self):
        return self.above


def test_the_server_ends_with_the_program_that_started_it_not_with_its_launcher():
    parent = pytest.importorskip("edge.server.transport.parent")
    application = Process("/apps/kiosk")
    chain = Process("/venv/bin/python", Process("/venv/bin/edge", application))
    assert parent._starter(chain, Path("/venv/bin")) is application
    assert parent._starter(chain, None) is chain
    orphan = Process("/venv/bin/python")
    assert parent._starter(orphan, Path("/venv/bin")) is orphan


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["int4", "bf16"])
def test_a_conversion_leaves_nothing_open_and_no_bytes_behind(tmp_path, monkeypatch, recipe):
    """Windows cuts no file that is mapped, and renames no folder of which a file is open."""
    real, published = ScratchFolder.publish, []

    def leave(self, *_):  # what Windows makes of IrWriter.__exit__
        self._weights.close()

    def publish(self):
        if Path("/proc/self/maps").exists():
            mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
            opened = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
            assert str(self.path) not in mapped
            assert [path for path in opened if str(self.path) in path] == []
        published.append(self.target)
        real(self)

    monkeypatch.setattr(IrWriter, "__exit__", leave)
    monkeypatch.setattr(ScratchFolder, "publish", publish)
    for _ in convert(CHECKPOINT, tmp_path / "out", recipe):
        pass
    assert published == [tmp_path / "out"]
    ModelFolder.open(tmp_path / "out").verify()
    assert ir_writer.cut  # what made it so


@pytest.mark.parametrize("word", ["C:\\%USERNAME%\\glm4", "$(Arg0)"])
def test_a_word_that_task_scheduler_would_replace_is_refused(word):
    with pytest.raises(RequestError, match="which Windows would replace"):
        task_xml(("python.exe", word), "S-1-5")
    assert task_xml(("python.exe", "C:\\100%\\glm4"), "S-1-5")
