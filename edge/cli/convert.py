"""`edge convert`: convert a GLM-4 checkpoint to a model folder."""

import argparse
import sys
from collections.abc import Iterable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.text import replace_controls

from .output import print_text

if TYPE_CHECKING:
    from runtime.progress import Progress


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge convert`."""
    verb = verbs.add_parser("convert", help="turn a GLM-4 checkpoint into a model folder")
    verb.add_argument(
        "checkpoint",
        help="a folder with config.json, safetensors (or an exported model.onnx) and a tokenizer; a .gguf file; "
        "or a model of `edge models` to fetch",
    )
    verb.add_argument("folder", type=Path, help="the model folder to make; it must not exist yet")
    verb.add_argument("--recipe", default="int4", metavar="NAME", help="one of `edge recipes` (the default is int4)")
    verb.add_argument(
        "--calibration", type=Path, metavar="FILE", help="texts for int4-awq and its kind, a JSON object a line"
    )
    verb.add_argument(
        "--exporter",
        choices=("edge", "optimum"),
        default="edge",
        help="who writes the IR: edge (the default) or optimum",
    )
    verb.add_argument("--quiet", action="store_true", help="print nothing but errors")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge convert`; return the exit code."""
    from ..conversion import open_conversion

    steps = open_conversion(
        args.checkpoint, args.folder, args.recipe, args.calibration, args.exporter, quiet=args.quiet
    )
    with closing(steps):
        last = show_progress(steps, quiet=args.quiet)
    if not args.quiet:
        print_text(last)
    return 0


def show_progress(steps: Iterable["Progress"], *, quiet: bool = False) -> str:
    """Draw the progress on a terminal, and return a summary of the result."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from convert.recipe import verdict

    console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", style="dim", markup=False),
    )
    result = None
    with nullcontext() if console.quiet else Progress(*columns, console=console) as bar:
        tasks = {}
        for step in steps:
            result = step.result or result
            if bar is None:
                continue
            if step.name not in tasks:
                tasks[step.name] = bar.add_task(step.name, detail="")
            detail = replace_controls(step.detail)
            bar.update(tasks[step.name], completed=step.done, total=step.total, detail=detail)
    if result is None:
        raise RuntimeError("the conversion ended without a result")
    words = verdict(result.manifest.recipe, result.manifest.verification)
    return f"{result.path}: {result.size / 1e6:,.1f} MB, verified: {words}"
