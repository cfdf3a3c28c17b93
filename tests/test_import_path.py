"""A program's folder that holds a `convert.py` or a package `runtime`: ours are found, or the error's cure works."""

import os
import plistlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edge.demo import CHECKPOINT
from edge.import_path import require_own_package
from edge.service import describe_service

ROOT = Path(__file__).resolve().parents[1]
IMPORT = "import edge; print(edge.__version__)"
CONVERTS = "from edge.catalogue import CATALOGUE; print(CATALOGUE['GLM-4-9B-0414'].disk_bytes('int4'))"
CHAT = "import edge, sys\nwith edge.Chat(sys.argv[1], device='CPU') as chat: print(chat.send('Who are you?').text)"
WAYS = {  # how Python is started in a folder, and what code it begins with
    "-c": (["-c"], ""),
    "a script": (["app.py"], ""),
    "standard input": (["-"], ""),
    "a notebook": (["-c"], "import sys; sys.path.insert(0, sys.prefix)\n"),  # '' is not the first there
}


@pytest.fixture
def folder(tmp_path):
    """A folder whose modules have the names of ours and some of the standard library."""
    place = tmp_path / "application"
    (place / "runtime").mkdir(parents=True)
    for name in ("convert.py", "runtime/__init__.py"):
        (place / name).write_text("raise SystemExit('the wrong file')")
    return place


def python(folder, *arguments, code="", way="-c", search=()):
    """Run Python in a folder, with this copy of the project on its path."""
    options, before = WAYS[way]
    (folder / "app.py").write_text(before + code)
    command = [sys.executable, *arguments] if arguments else [sys.executable, *options]
    if not arguments and way in ("-c", "a notebook"):
        command.append(before + code)
    return subprocess.run(
        command,
        input=code,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*search, ROOT)))},
    )


def lacks(folder, name):
    """The folder, without one of its modules."""
    path = folder / name
    if path.is_dir():
        (path / "__init__.py").unlink()
        path.rmdir()
    else:
        path.unlink()
    return folder


def hidden(done, file):
    """The statement that the error for this file recommends."""
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("ImportError"))
    assert line.startswith(f"ImportError: {file} hides glm4-edge's package"), line
    return re.search(r"put this before `import edge`: (.*)", line)[1] + "\n"


@pytest.mark.parametrize("way", WAYS)
def test_without_converting_a_convert_py_hides_nothing(folder, way):
    done = python(lacks(folder, "runtime"), code=IMPORT, way=way)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("other", "file", "code"), [("convert.py", "runtime/__init__.py", IMPORT), ("runtime", "convert.py", CONVERTS)]
)
def test_the_cure_of_the_error_works(folder, way, other, file, code):
    done = python(lacks(folder, other), code=code, way=way)
    statement = hidden(done, folder / file)
    assert ("start Python with -P" in done.stderr) == (way != "a notebook")
    cured = python(folder, code=statement + code, way=way)
    assert (cured.returncode, cured.stderr) == (0, "")


@pytest.mark.parametrize("code", [IMPORT, CONVERTS])
def test_the_option_P_cures_it_too(folder, code):
    assert python(folder, "-P", "-c", code).returncode == 0


@pytest.mark.parametrize(("found", "named"), [(True, "runtime"), (False, "<runtime>")])
def test_a_folder_without_init_and_a_module_without_a_file_are_named(monkeypatch, tmp_path, found, named):
    module = ModuleType("runtime")
    if found:
        module.__path__ = [str(tmp_path / "runtime")]
    monkeypatch.setitem(sys.modules, "runtime", module)
    with pytest.raises(ImportError, match=re.escape(f"{named} hides glm4-edge's package 'runtime': rename it, or run")):
        require_own_package("runtime")


def test_an_application_keeps_its_own_modules(folder):
    (lacks(folder, "runtime") / "convert.py").write_text("OWN = True")
    done = python(folder, code="import edge, convert; assert convert.OWN\n" + CONVERTS)
    assert "or run `edge convert` in a process of its own" in done.stderr


@pytest.mark.slow
def test_a_chat_works_beside_a_convert_py(folder, demo_folder):
    done = python(lacks(folder, "runtime"), "-c", CHAT, str(demo_folder.path))
    assert "tiny test model" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_conversion_beside_a_convert_py_works_by_the_cure(folder):
    pytest.importorskip("nncf")
    lacks(folder, "runtime")
    code = f"import edge; print(edge.convert({str(CHECKPOINT)!r}, 'out').recipe)"
    statement = hidden(python(folder, code=code), folder / "convert.py")
    assert not (folder / "out").exists()
    done = python(folder, code=statement + code)
    assert (done.returncode, done.stdout) == (0, "int4-fit\n"), done.stderr


@pytest.mark.slow
def test_the_command_line_finds_its_own(folder):
    """`edge recipes` imports `convert`."""
    script = Path(sys.executable).with_name("edge.exe" if sys.platform == "win32" else "edge")
    commands = [[sys.executable, "-m", "edge"], [sys.executable, "-P", "-m", "edge"]]
    if script.exists():
        commands.append([str(script)])
    for command in commands:
        environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "HOME": str(folder)}
        done = subprocess.run(
            [*command, "recipes"], capture_output=True, text=True, check=False, cwd=folder, env=environment
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        assert "int4-awq" in done.stdout
    other = python(folder, "-m", "app", code=IMPORT)  # a module of the application is no command line
    assert "hides glm4-edge's package 'runtime'" in other.stderr


def test_the_command_of_a_service_is_hidden_by_no_file_of_the_home_folder(folder):
    (folder / "queue.py").write_text("raise SystemExit('the wrong file')")
    plist = plistlib.loads(describe_service(("--help",), "darwin", folder).text.encode())
    done = python(folder, *plist["ProgramArguments"][1:])
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: edge serve" in done.stdout
