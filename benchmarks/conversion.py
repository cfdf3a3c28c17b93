"""Time, memory and disk that a conversion takes, step by step.

    python -m benchmarks.conversion CHECKPOINT FOLDER --recipe int4

Anonymous memory cannot be reclaimed; file memory is pages of mapped files, which the system reclaims when it needs
them. Linux only, as both are read from /proc.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from convert.pipeline import convert
from runtime.errors import EdgeError
from runtime.folder.model_folder import ModelFolder

_EVERY = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class StepCost:
    """The cost of a conversion step: seconds, and peaks in bytes."""

    name: str
    seconds: float
    anonymous: int
    file: int
    disk: int


class ResourceMeter:
    """A thread that samples memory and disk."""

    def __init__(self, parent: Path, prefix: str) -> None:
        self._parent, self._prefix = parent, prefix
        self._peaks, self._since = (0, 0, 0), time.perf_counter()
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "ResourceMeter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def lap(self, name: str) -> StepCost:
        """Return the time and the peaks since the previous call, as the cost of the step called `name`."""
        self._sample()
        now = time.perf_counter()
        with self._lock:
            step = StepCost(name, now - self._since, *self._peaks)
            self._peaks, self._since = (0, 0, 0), now
        self._sample()
        return step

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            self._sample()

    def _sample(self) -> None:
        anonymous, file = _memory()
        with self._lock:
            found = (anonymous, file, sum(_sizes(self._parent, self._prefix)))
            self._peaks = tuple(max(pair) for pair in zip(self._peaks, found, strict=True))  # type: ignore[assignment]


def _memory() -> tuple[int, int]:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(lines[key].split()[0]) * 1024 for key in ("RssAnon", "RssFile"))  # type: ignore[return-value]


def _sizes(parent: Path, prefix: str) -> Iterator[int]:
    for folder in parent.glob(prefix + "*"):
        for path in folder.glob("*"):
            try:
                yield 512 * path.stat().st_blocks  # the .bin is sparse until it is full
            except FileNotFoundError:
                continue


def measure(
    checkpoint: Path, target: Path, recipe: str, adapters: Sequence[str] = ()
) -> tuple[list[StepCost], ModelFolder]:
    """Convert a checkpoint, and return the cost of each step. Raises the errors of `convert`."""
    steps: list[StepCost] = []
    current, result = "check", None
    target = target.absolute()
    with (
        ResourceMeter(target.parent, f".{target.name}.partial-") as meter,
        closing(convert(checkpoint, target, recipe, adapters=adapters)) as run,
    ):
        for progress in run:
            if progress.name != current:
                steps.append(meter.lap(current))
                current = progress.name
            result = progress.result or result
        steps.append(meter.lap(current))
    if result is None:
        raise RuntimeError("the conversion ended without a result")
    return steps, result


def main() -> int:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path, help="the model folder to create; it must not exist")
    parser.add_argument("--recipe", default="int4")
    parser.add_argument("--adapter", action="append", default=[], help="a LoRA adapter to merge; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    try:
        steps, folder = measure(args.checkpoint, args.folder, args.recipe, args.adapter)
    except EdgeError as exc:
        print(f"{exc} ({exc.hint})", file=sys.stderr)
        return 1
    whole = StepCost(
        "whole",
        sum(step.seconds for step in steps),
        *(max(getattr(step, key) for step in steps) for key in ("anonymous", "file", "disk")),
    )
    if args.json:
        out = {"recipe": args.recipe, "steps": [asdict(step) for step in [*steps, whole]], "size": folder.size}
        print(json.dumps(out | {"verification": dict(folder.manifest.verification)}, indent=2))
    else:
        _print_table([*steps, whole], folder)
    return 0


def _print_table(steps: list[StepCost], folder: ModelFolder) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("step", title=f"{folder.manifest.source.name}, {folder.manifest.recipe}: {folder.size / 1e6:,.1f} MB")
    for heading in ("seconds", "anonymous MB", "file MB", "disk MB"):
        table.add_column(heading, justify="right")
    for step in steps:
        sizes = (f"{size / 1e6:,.0f}" for size in (step.anonymous, step.file, step.disk))
        table.add_row(step.name, f"{step.seconds:.1f}", *sizes, end_section=step is steps[-2])
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
