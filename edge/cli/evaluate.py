"""`edge eval`: measure how much quality a conversion costs."""

import argparse
import sys
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.text import replace_controls

from .numbers import integer, number
from .output import print_json, print_text
from .shared_flags import add_json

if TYPE_CHECKING:
    from ..evaluation.evaluate import Report


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge eval`."""
    verb = verbs.add_parser(
        "eval",
        help="measure how much quality a conversion costs",
        description="Measure how much quality a conversion costs: perplexity, divergence from the checkpoint, and "
        "tool-call accuracy, as figures and a report. To compare recipes, or as a check in CI.",
        epilog="Example:\n\n    edge eval ./glm4-int4 --against ./GLM-4-9B-0414 --out ./report",
    )
    verb.add_argument("folder", help="a model folder, or a name in `edge list`")
    verb.add_argument(
        "--against",
        type=Path,
        metavar="CHECKPOINT",
        help="the checkpoint that the folder was converted from (default: none, and no divergence)",
    )
    verb.add_argument(
        "--texts",
        type=Path,
        metavar="FILE.jsonl",
        help="your own texts or dialogues (default: the built-in corpus)",
    )
    verb.add_argument(
        "--calls",
        type=Path,
        metavar="FILE.jsonl",
        help="dialogues with tools and the expected calls (default: those that ship for the checkpoint, if any)",
    )
    verb.add_argument(
        "--context",
        type=integer("--context"),
        metavar="N",
        help="tokens of the longest text (default: 2048, or the model's context if that is shorter)",
    )
    verb.add_argument(
        "--new-tokens",
        type=integer("--new-tokens", 0),
        default=64,
        metavar="N",
        help="tokens of each greedy reply; 0 skips them",
    )
    verb.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write report.json, report.md and charts to this new folder (default: print the report only)",
    )
    add_json(verb)
    verb.add_argument(
        "--max-kl",
        type=number("--max-kl", 0, 100),
        metavar="NATS",
        help="exit with 1 if the mean KL divergence is above so many nats a token (default: no limit)",
    )
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge eval`; return the exit code."""
    from runtime.errors import RequestError, VerificationError

    from ..evaluation import report
    from ..evaluation.evaluate import evaluate
    from ..store.model_store import resolve_folder

    if args.max_kl is not None and args.against is None:
        raise RequestError("--max-kl needs a checkpoint to compare with", hint="add --against CHECKPOINT")
    if args.out is not None:
        report.require_new_folder(args.out)
    steps = evaluate(
        resolve_folder(args.folder),
        args.against,
        texts=args.texts,
        calls=args.calls,
        context=args.context,
        new_tokens=args.new_tokens,
    )
    found = show_steps(steps)
    if args.out is not None:
        report.write_report(found, args.out)
    if args.json:
        print_json(asdict(found))
    else:
        print_text(report.markdown(found, pictures=False), end="")
    measured = found.figures.mean_kl
    if args.max_kl is not None and measured is not None and not measured <= args.max_kl:
        raise VerificationError(
            f"the mean KL divergence is {measured:.4g} nats a token; --max-kl allows {args.max_kl:g}",
            hint="choose a recipe with more bits a weight, such as int8",
        )
    return 0


def show_steps(steps: "Generator[str, None, Report]") -> "Report":
    """Show the current step on a terminal, and return the report."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, quiet=not sys.stderr.isatty())
    with console.status("") as status:
        while True:
            try:
                status.update(Text(replace_controls(next(steps))))
            except StopIteration as end:
                found: Report = end.value
                return found
