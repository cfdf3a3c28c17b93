"""What the licence of a model obliges to is known from its folder."""

from dataclasses import replace

import pytest

from edge.catalogue import licence_duties
from edge.cli import main
from runtime.folder.model_folder import write_manifest

CASES = {  # the checkpoint's name, its licence, whether there are duties
    "by name": ("glm-4-9b-chat", "", True),
    "by a name with its organization": ("zai-org/glm-4-9b-chat", "other", True),
    "MIT": ("GLM-4-9B-0414", "mit", False),
    "a folder of any name, by its licence": ("my-tuned-model", "glm-4", True),
    "unknown": ("my-tuned-model", "see LICENSE", False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_duties(demo_folder, case):
    name, licence, owed = case
    manifest = replace(demo_folder.manifest, licence=licence, source=replace(demo_folder.manifest.source, name=name))
    assert ("Built with glm-4" in licence_duties(manifest)) is owed


def test_inspect_shows_them(demo_folder, tmp_path, capsys):
    for file in demo_folder.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_manifest(tmp_path, replace(demo_folder.manifest, licence="glm-4"))
    assert main(["inspect", str(tmp_path)]) == 0
    assert "Built with glm-4" in " ".join(capsys.readouterr().out.split())
    assert main(["inspect", str(demo_folder.path)]) == 0
    assert "none but to keep" in " ".join(capsys.readouterr().out.split())
