"""Conversions to disks that fill up, in a mount namespace of their own, in which nobody can remove /dev/null.

`unshare --mount python -m tests.small_disks CHECKPOINT PLACE SIZE...` answers a line of JSON for each size: the error's
class and text, its hint, and the files that are left. With a size of 0 the demo's checkpoint is converted, and the
full disk has the folder for temporary files.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def convert_to_disks(checkpoint: Path, place: Path, sizes: list[int]) -> list[dict[str, Any]] | None:
    """Run the conversions; None where there are no mount namespaces."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    command = [unshare, "--mount", "--propagation", "private", *(["--map-root-user"] if os.getuid() else [])]
    if subprocess.run(
        [*command, "mount", "--bind", os.devnull, os.devnull], capture_output=True, check=False
    ).returncode:
        return None
    arguments = [str(checkpoint), str(place), *map(str, sizes)]
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.small_disks", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main(checkpoint: str, place: str, *sizes: str) -> None:
    import convert.pipeline
    from edge.demo import CHECKPOINT
    from runtime.errors import EdgeError

    convert.pipeline.require_resources = lambda *_: None  # type: ignore[assignment]
    subprocess.run(["mount", "--bind", os.devnull, os.devnull], check=True)  # a mount point is not removed
    disk = Path(place, "disk")
    disk.mkdir()
    for size in map(int, sizes):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size or 65_536}", "tmpfs", str(disk)], check=True)
        source, target, recipe = Path(checkpoint), disk / "model", "bf16"
        if not size:
            (disk / "full").write_bytes(bytes(40_960))  # what is left is enough for tempfile's own try
            os.environ["TMPDIR"] = tempfile.tempdir = str(disk)
            source, target, recipe = CHECKPOINT, Path(place, "model"), "int4"
        try:
            list(convert.pipeline.convert(source, target, recipe))
            found = {"error": None}
        except EdgeError as exc:
            found = {"error": type(exc).__name__, "text": str(exc), "hint": exc.hint}
        print(json.dumps(found | {"left": sorted(path.name for path in disk.iterdir())}), flush=True)
        subprocess.run(["umount", str(disk)], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
