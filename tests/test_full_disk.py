"""A disk that fills up under a conversion is said, leaves nothing, and costs the machine nothing else."""

import os
import stat

import pytest

from .small_disks import convert_to_disks
from .test_pipeline import write_checkpoint

SIZES = [4_096, 16_384, 45_056, 65_536, 131_072, 262_144, 393_216]


@pytest.mark.slow
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    null = os.stat(os.devnull)
    answers = convert_to_disks(write_checkpoint(tmp_path / "tiny"), tmp_path, [*SIZES, 0])
    if answers is None:
        pytest.skip("there are no mount namespaces here")
    *targets, temporary = answers
    for size, answer in zip(SIZES, targets, strict=True):
        assert (answer["error"], answer["left"]) == ("DiskFull", []), size
        assert "full" in answer["text"], size
    assert str(tmp_path / "disk") in temporary["text"]
    assert temporary["error"] in ("ConversionError", "DiskFull")
    assert "TMPDIR" in temporary["hint"]
    assert temporary["left"] == ["full"]
    assert (stat.S_ISCHR(os.stat(os.devnull).st_mode), os.stat(os.devnull).st_ino) == (True, null.st_ino)
