"""What we keep on this machine: all of it is in one list and in docs/data.md, private, and deleted by one command.

The table of docs/data.md is written by `python -m tests.test_kept_data`.
"""

import ast
import json
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from edge.cli import main
from edge.diagnostics import kept_data
from edge.diagnostics.kept_data import KINDS, NAMES, find_data
from edge.store.model_store import STORE_VARIABLE
from runtime.chat import Chat
from runtime.folder.compile_cache import CACHE_VARIABLE
from runtime.system import user_folders

from .audit import Place

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"
_BLOCK = re.compile(r"(<!-- kinds -->\n).*?(<!-- end -->\n)", re.DOTALL)
KEEP = """
import sys
from edge.cli.kept_pictures import keep_pictures
from edge.cli.prompt_input import _open_history
from edge.server.logs.log_file import LogFile
from edge.store.model_name import ModelName
from edge.store.model_store import store_root
from edge.store.pull_lock import pull_lock
from runtime.backends.openvino.int4.library import library_name, library_root
from runtime.backends.tuned_settings import tuned_root
from runtime.folder import compile_cache
from runtime.folder.model_folder import ModelFolder
from runtime.pictures import Picture
from runtime.system.files import write_atomically
from edge.cli import main

PNG = (
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c"
    "49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
LogFile("").close()
list(keep_pictures([Picture.open(bytes.fromhex(PNG))]))
_open_history().append_string("Who are you?")
with pull_lock(ModelName.parse("z1-9b"), print):
    store_root().joinpath("GLM-Z1-9B-0414@int4").mkdir()
    store_root().joinpath("GLM-Z1-9B-0414@int4", "edge.json").write_text("{}")
library_root().mkdir(mode=0o700, parents=True)
write_atomically(library_root() / library_name(), bytes(1000), private=True)
tuned_root().mkdir(mode=0o700, parents=True)
write_atomically(tuned_root() / "tuned.json", b"{}", private=True)
with compile_cache.caching(ModelFolder.open(sys.argv[1]), "GPU", "1") as found:
    with open(found["CACHE_DIR"] + "/1.blob", "wb") as file:
        file.write(bytes(1000))
sys.exit(main(["service", "install", sys.argv[1]]))
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="the page has Linux's places")


def written(page):
    rows = [f"| `{kind.name}` | {kind.what} | {kind.why} | `{place(kind)}` |" for kind in KINDS]
    table = "\n".join(("| kind | what | why | where |", "|---|---|---|---|", *rows))
    return _BLOCK.sub(lambda block: f"{block[1]}\n{table}\n\n{block[2]}", page)


def place(kind):
    """Its place for a user without variables that change it."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("XDG_", "EDGE_"))]:
        del os.environ[name]
    os.environ["HOME"] = "/home/me"
    try:
        return kind.locate().as_posix().replace("/home/me", "~")
    finally:
        os.environ.clear()
        os.environ.update(kept)


@linux
def test_the_page_is_as_the_code():
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "python -m tests.test_kept_data"


@pytest.fixture
def home(tmp_path, demo_folder, monkeypatch):
    """A user's home where everything has been kept, and `systemctl` says yes to all."""
    found = Place(tmp_path)
    tools = found.root / "bin"
    tools.mkdir()
    (tools / "systemctl").write_text("#!/bin/sh\n")
    (tools / "systemctl").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    found.python("-c", KEEP, str(demo_folder.path), more={"PATH": path})
    for name in [name for name in os.environ if name.startswith("XDG_")] + [CACHE_VARIABLE, STORE_VARIABLE]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", path)
    return tmp_path / "home"


def files(home):
    return [path for path in home.rglob("*") if path.is_file()]


@linux
@pytest.mark.slow
def test_everything_is_listed_private_and_deleted(home, capsys):
    assert main(["data", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert tuple(row["kind"] for row in listed) == NAMES
    places = [Path(path) for row in listed for path in (row["path"], *row["beside"])]
    kept = files(home)
    assert sum(row["files"] for row in listed) == len(kept)
    for path in kept:
        assert "models" in path.parts or stat.S_IMODE(path.stat().st_mode) == 0o600, path  # the models' folder is 0700
        assert any(path.is_relative_to(one) for one in places), path
    for one in (path for path in places if path.is_dir()):
        assert stat.S_IMODE(one.stat().st_mode) == 0o700, one

    assert main(["data", "--delete"]) == 1
    assert "nobody can be asked" in capsys.readouterr().err
    assert files(home) == kept
    assert main(["data", "logs", "--delete", "--yes"]) == 0
    assert [data.kind.name for data in find_data()] == [name for name in NAMES if name != "logs"]
    assert main(["data", "--delete", "--yes"]) == 0
    assert files(home) == []
    capsys.readouterr()
    assert main(["data"]) == 0
    assert capsys.readouterr().out == "Nothing is kept.\n"


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("answer", "deleted"), [("y\n", True), ("Yes\n", True), ("\n", False), ("", False)])
def test_a_question_comes_first(home, capsys, monkeypatch, answer, deleted):
    import io

    monkeypatch.setattr("edge.cli.streams.is_terminal", lambda stream: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert main(["data", "--delete"]) == (not deleted)
    assert "files? [y/N] " in capsys.readouterr().out
    assert (not files(home)) == deleted


def test_the_models_of_a_service_go_with_it(tmp_path, monkeypatch):
    unit = tmp_path / "glm4-edge.service"
    kind = kept_data.DataKind("service", "a unit", "to start", lambda: unit, kept_data._models_of_service)
    monkeypatch.setattr(kept_data, "KINDS", (kind,))
    for name in ("glm4-edge.service", "glm4-edge.models.json", "glm4-edge.models.json.served", "other.service"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    (found,) = find_data(["service"])
    assert (found.files, len(found.beside)) == (3, 2)
    assert kept_data.delete_data(found) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["other.service"]


def test_what_is_in_use_is_named(tmp_path, monkeypatch, capsys):
    """As on Windows, where an open file cannot be deleted: `remove` leaves it."""
    (tmp_path / "glm4-edge/logs").mkdir(parents=True)
    (tmp_path / "glm4-edge/logs/server.log").write_text("x", encoding="utf-8")
    kind = kept_data.DataKind("logs", "a log", "to read", lambda: tmp_path / "glm4-edge/logs", delete=lambda _: None)
    monkeypatch.setattr(kept_data, "KINDS", (kind,))
    assert main(["data", "logs", "--delete", "--yes"]) == 1
    assert "another program uses it" in capsys.readouterr().out


def test_links_are_counted_not_followed(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/large").write_bytes(bytes(10_000))
    (tmp_path / "glm4-edge/logs").mkdir(parents=True)
    (tmp_path / "glm4-edge/logs/link").symlink_to(tmp_path / "mine")
    kind = kept_data.DataKind("logs", "a log", "to read", lambda: tmp_path / "glm4-edge/logs")
    monkeypatch.setattr(kept_data, "KINDS", (kind,))
    (found,) = find_data(["logs"])
    assert found.size < 1000
    assert kept_data.delete_data(found) == ""
    assert (tmp_path / "mine/large").is_file()


def test_a_folder_that_the_user_named_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "mine"))
    (tmp_path / "mine/compiled").mkdir(parents=True)
    (tmp_path / "mine/compiled/letter.txt").write_text("Dear", encoding="utf-8")
    assert find_data(["compiled"]) == []
    assert main(["data", "compiled", "--delete", "--yes"]) == 0
    assert (tmp_path / "mine/compiled/letter.txt").is_file()


def test_an_unknown_kind_is_refused(capsys):
    assert main(["data", "chats"]) == 1
    assert "choose of service" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_a_saved_chat_is_its_owners_alone(tmp_path, demo_folder):
    with Chat(demo_folder) as chat:
        chat.save(tmp_path / "chat.json")
    assert stat.S_IMODE((tmp_path / "chat.json").stat().st_mode) == 0o600


def test_only_one_module_knows_the_users_folders(sources):
    """Whoever keeps something asks it for a folder, and is in KINDS."""
    functions = {"cache_folder", "data_folder", "state_folder", "history_file", "log_folder", "pictures_folder"}
    assert functions <= set(vars(user_folders))
    importing, using = set(), set()
    for package in ("edge", "convert", "runtime"):
        for path in (sources / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                name = path.relative_to(sources).as_posix()
                if isinstance(node, ast.ImportFrom) and node.module == "platformdirs":
                    importing.add(name)
                if isinstance(node, ast.ImportFrom) and functions & {alias.name for alias in node.names}:
                    using.add(name)
    assert importing == {"runtime/system/user_folders.py"}
    assert using == {
        "edge/cli/kept_pictures.py",
        "edge/cli/prompt_input.py",
        "edge/store/model_store.py",
        "edge/diagnostics/kept_data.py",
        "edge/server/logs/log_file.py",
        "runtime/folder/compile_cache.py",
    }, "add a row to KINDS of edge/diagnostics/kept_data.py, and the file here"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
