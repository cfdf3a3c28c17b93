"""What a link points to outlives whatever replaces or removes the link."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from edge import service
from edge.cli import main
from edge.demo import CHECKPOINT
from runtime.errors import RequestError
from runtime.folder import compile_cache as compiled
from runtime.system.files import expand_user, is_plain_file, is_plain_folder, remove, write_atomically
from runtime.system.native_effects import temporary_home


@pytest.fixture
def precious(tmp_path):
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    return folder


def test_a_link_is_replaced_and_its_target_kept(tmp_path, precious):
    link = tmp_path / "link"
    link.symlink_to(precious / "file")
    write_atomically(link, b"new")
    assert (is_plain_file(link), link.read_bytes(), (precious / "file").read_bytes()) == (True, b"new", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "precious"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_device_a_pipe_and_a_folder_are_not_replaced(tmp_path, precious):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "stdout").symlink_to(os.devnull)
    for path in (tmp_path / "pipe", tmp_path / "stdout", precious):
        before = path.lstat()
        with pytest.raises(OSError, match="not a regular file"):
            write_atomically(path, b"new")
        assert path.lstat() == before
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(tmp_path / "file", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("what", ["folder", "file", "link to a folder", "link to a file", "link to nothing", "nothing"])
def test_what_is_removed_is_gone_and_nothing_else(tmp_path, precious, what):
    path = tmp_path / "path"
    match what:
        case "folder":
            path.mkdir()
            (path / "inner").symlink_to(precious)
        case "file":
            path.write_bytes(b"")
        case "link to a folder":
            path.symlink_to(precious)
        case "link to a file":
            path.symlink_to(precious / "file")
        case "link to nothing":
            path.symlink_to("nowhere")
    assert is_plain_folder(path) == (what == "folder")
    assert is_plain_file(path) == (what == "file")
    remove(path)
    assert not os.path.lexists(path)
    assert (precious / "file").read_bytes() == b"x"


@pytest.fixture
def homeless(monkeypatch):
    """A user whom the system does not know, as in a container with a number for a user."""
    pwd = pytest.importorskip("pwd")

    def unknown(who):
        raise KeyError(who)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "EDGE_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_needs_none(bare_folder):
    with pytest.raises(RequestError, match="no home folder") as caught:
        compiled.compiled_root()
    assert "EDGE_CACHE" in caught.value.hint
    with compiled.caching(bare_folder, "GPU", "1") as place:
        assert place == {}
    with pytest.raises(RequestError, match="no home folder"):
        service.describe_service(())
    with temporary_home():  # NNCF asks for it when it is imported
        assert Path.home().is_dir()
    assert expand_user("~") == Path("~")
    assert (main(["cache"]), main(["service", "status"]), main(["recipes"])) == (1, 1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["~x", "~no such user/x", "~"])
def test_a_folder_may_be_called_so(tmp_path, monkeypatch, name, request):
    if name == "~":
        request.getfixturevalue("homeless")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CHECKPOINT, name)
    target = f"{name} converted"
    assert main(["convert", name, target, "--recipe", "int8", "--quiet"]) == 0
    assert main(["inspect", target]) == 0
    assert main(["export-template", name]) == 0
    assert main(["recipes", name]) == 0
