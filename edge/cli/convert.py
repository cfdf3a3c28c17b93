"""`edge convert`: convert a GLM-4 checkpoint to a model folder."""

import argparse
import sys
from collections.abc import Iterable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.text import replace_controls

from .numbers import integer
from .output import print_text

if TYPE_CHECKING:
    from runtime.progress import Progress


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge convert`."""
    verb = verbs.add_parser(
        "convert",
        help="convert a GLM-4 checkpoint to a model folder",
        description="Convert a GLM-4 checkpoint to a model folder: OpenVINO IR with compressed weights, verified "
        "against the checkpoint before it appears. Once per model; chats then need the folder alone.",
        epilog="Examples:\n\n    edge convert ./GLM-4-9B-0414 ./glm4-int4\n"
        "    edge convert zai-org/GLM-4-9B-0414 ./glm4-int8 --recipe int8\n"
        "    edge convert ./GLM-4-9B-0414 ./glm4-tuned --adapter ./lora",
    )
    verb.add_argument(
        "checkpoint",
        help="a folder with config.json, a tokenizer, and safetensors or an exported model.onnx; a .gguf file; or the "
        "name of a model in `edge models`, or REPOSITORY:FILE.gguf, which is downloaded",
    )
    verb.add_argument("folder", type=Path, help="the model folder to create; it must not exist yet")
    verb.add_argument(
        "--recipe",
        metavar="NAME",
        help="one of `edge recipes` (default: int4-fit; int4 for vision models and ONNX files; stored if the weights "
        "are quantised in 4 bits already)",
    )
    verb.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="texts for data-aware recipes such as int4-awq, one JSON object a line (default: built-in texts)",
    )
    verb.add_argument(
        "--exporter",
        choices=("edge", "optimum"),
        default="edge",
        help="which program writes the IR: ours, or optimum-intel",
    )
    verb.add_argument(
        "--context",
        type=integer("--context"),
        metavar="N",
        help="extend the context to N tokens by YaRN, as the makers of GLM-4-0414 and GLM-Z1 do: up to 131,072 "
        "(default: the checkpoint's own)",
    )
    verb.add_argument(
        "--hub",
        choices=("huggingface", "modelscope"),
        default="huggingface",
        help="where models are downloaded from by name",
    )
    verb.add_argument(
        "--revision", metavar="R", help="the branch, tag or commit to download (default: the main branch)"
    )
    verb.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="DIR[@WEIGHT]",
        help="a LoRA adapter to merge into the weights; may be repeated, the updates add up (default: none)",
    )
    verb.add_argument("--quiet", action="store_true", help="print only errors")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge convert`; return the exit code."""
    from ..conversion import open_conversion

    steps = open_conversion(
        args.checkpoint,
        args.folder,
        args.recipe,
        args.calibration,
        args.exporter,
        context=args.context,
        revision=args.revision,
        hub=args.hub,
        adapters=args.adapter,
        quiet=args.quiet,
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

    from ..catalogue import licence_duties

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
    duties = licence_duties(result.manifest)
    words = verdict(result.manifest.recipe, result.manifest.verification)
    return f"{result.path}: {result.size / 1e6:,.1f} MB, verified: {words}" + (
        f"\nlicence duties: {duties}" if duties else ""
    )
