"""`edge upgrade`: folders as earlier versions wrote them, and those that it refuses."""

import json
import shutil

import pytest

from edge.cli import main
from runtime.folder.model_folder import ModelFolder
from runtime.source import stop_tokens

FIELDS = {  # of the manifest, and their values in an early folder; None: the key is not there
    "stop_tokens": None,
    "sampling": None,
    "sha256": None,
}


@pytest.fixture
def early(demo_folder, tmp_path):
    """A folder whose manifest lacks what early versions did not write."""
    folder = tmp_path / "early"
    shutil.copytree(demo_folder.path, folder)
    path = folder / "edge.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({name: value for name, value in data.items() if name not in FIELDS}), encoding="utf-8")
    return folder


def test_an_early_folder_is_brought_up(early, demo_folder, capsys):
    before = ModelFolder.open(early)
    assert (before.manifest.stop_tokens, before.manifest.sampling) == ((), None)
    assert main(["upgrade", str(early)]) == 0
    assert capsys.readouterr().out == f"{early}: added stop_tokens, sampling, sha256\n"
    after = ModelFolder.open(early)
    after.verify_manifest()
    after.verify()
    assert "sha256" in json.loads((early / "edge.json").read_text(encoding="utf-8"))
    assert after.manifest.stop_tokens == stop_tokens(before)
    assert {*after.manifest.stop_tokens} >= {*demo_folder.manifest.stop_tokens}
    assert after.sampling() == before.sampling()
    assert after.manifest.files == before.manifest.files
    assert main(["upgrade", str(early)]) == 0
    assert capsys.readouterr().out == f"{early} is up to date\n"


def test_what_is_refused(early, capsys):
    manifest = early / "edge.json"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(json.dumps(json.loads(text) | {"format_version": 2}), encoding="utf-8")
    assert main(["upgrade", str(early)]) == 1
    assert "made by a later version (format 2, this one reads 1)" in capsys.readouterr().err
    manifest.write_text(text, encoding="utf-8")
    weights = early / "openvino_model.bin"
    weights.write_bytes(bytes(weights.stat().st_size))
    assert main(["upgrade", str(early)]) == 1
    assert "is damaged: its hash differs" in capsys.readouterr().err
    assert manifest.read_text(encoding="utf-8") == text


def test_a_new_folder_is_up_to_date(demo_folder, capsys):
    assert main(["upgrade", str(demo_folder.path)]) == 0
    assert "is up to date" in capsys.readouterr().out
