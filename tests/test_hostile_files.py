"""Files of every kind that is read, damaged at random: each loads or is refused in a line, soon, and in little memory.

`python -m pytest tests/test_hostile_files.py --mutants 300 -s` tries more of them and prints a table.
`python -m tests.loaders` tells how one is tried again.
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer

import pytest

pytest.importorskip("onnx")
pytest.importorskip("gguf")

from .loaders import KINDS
from .seed_files import write_seeds

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 20.0
MEMORY = 2 * 10**9  # bytes


@dataclass
class Count:
    """Of a kind: how many mutants were tried, and those that went wrong, by their numbers."""

    tried: int = 0
    loaded: int = 0
    tracebacks: dict[int, str] = field(default_factory=dict)
    crashes: dict[int, str] = field(default_factory=dict)
    slow: dict[int, str] = field(default_factory=dict)
    large: dict[int, str] = field(default_factory=dict)

    @property
    def faults(self) -> dict[str, dict[int, str]]:
        named = {"tracebacks": self.tracebacks, "crashes": self.crashes, "slow": self.slow, "large": self.large}
        return {name: found for name, found in named.items() if found}


class Loader:
    """The process in which mutants are loaded. One that crashes or hangs is started again."""

    def __init__(self, seeds: Path) -> None:
        self.seeds = seeds
        self._process: subprocess.Popen[str] | None = None

    def load(self, kind: str, number: int, count: Count) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.loaders", str(self.seeds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
            )
        assert self._process.stdin
        assert self._process.stdout
        ended: list[bool] = []
        timer = Timer(3 * SECONDS, lambda: (ended.append(True), self.close()))
        timer.start()
        print(json.dumps([kind, number]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        timer.cancel()
        count.tried += 1
        if not line:
            status = self._process and self._process.wait()
            (count.slow if ended else count.crashes)[number] = f"ended with {status}"
            self.close()
            return
        answer = json.loads(line)
        count.loaded += answer["loaded"]
        if answer["what"]:
            count.tracebacks[number] = answer["what"]
        if answer["seconds"] > SECONDS:
            count.slow[number] = f"{answer['seconds']:.1f} s"
        if answer["peak"] > MEMORY:
            count.large[number] = f"{answer['peak'] / 1e9:.1f} GB"

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    seeds = tmp_path_factory.mktemp("seeds")
    write_seeds(seeds)
    found = Loader(seeds)
    yield found
    found.close()


@pytest.fixture(scope="module")
def table():
    """The counts of all kinds, printed at the end."""
    found: dict[str, Count] = {}
    yield found
    print(f"\n{'':36}{'mutants':>8}{'loaded':>8}{'tracebacks':>12}{'crashes':>9}{'over 20 s':>11}{'over 2 GB':>11}")
    for kind, c in found.items():
        faults = f"{len(c.tracebacks):>12}{len(c.crashes):>9}{len(c.slow):>11}{len(c.large):>11}"
        print(f"{kind:36}{c.tried:>8}{c.loaded:>8}{faults}")


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_itself_loads(loader, kind):
    count = Count()
    loader.load(kind, 0, count)
    assert count.faults == {}
    assert count.loaded == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_loads_or_is_refused_in_a_line(loader, table, kind, request):
    count = table[kind] = Count()
    for number in range(1, request.config.getoption("mutants") + 1):
        loader.load(kind, number, count)
    assert count.tried
    assert count.faults == {}


@pytest.mark.parametrize("damage", ["cut short", "empty", "zeros", "an unknown operation"])
def test_a_damaged_onnx_file_is_all_that_is_said(loader, tmp_path, damage):
    folder = shutil.copytree(loader.seeds / "onnx", tmp_path / "onnx")
    raw = (folder / "model.onnx").read_bytes()
    replaced = raw.replace(b"MatMul", b"MatMux")
    data = {"cut short": raw[: len(raw) // 2], "empty": b"", "zeros": bytes(1000)}.get(damage, replaced)
    (folder / "model.onnx").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "edge", "convert", str(folder), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert re.fullmatch(r"error: OpenVINO cannot read model\.onnx: .*\nhint: .*\n", done.stderr)
    assert (done.returncode, done.stdout) == (1, "")
