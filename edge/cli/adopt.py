"""`edge adopt`: make the OpenVINO folder of another program a model folder."""

import argparse
from contextlib import closing
from pathlib import Path

from .convert import show_progress
from .output import print_text


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge adopt`."""
    verb = verbs.add_parser(
        "adopt",
        help="make an OpenVINO folder of another program a model folder",
        description="Make an OpenVINO folder of another program a model folder: one of optimum-cli, of the hub's "
        "converted models, or of GLM-4's own OpenVINO demo. It is checked, run once, and gets a manifest; nothing else "
        "in it changes.",
        epilog="Examples:\n\n    edge adopt ./glm4-openvino ./glm4-adopted\n    edge adopt ./glm4-openvino",
    )
    verb.add_argument("folder", help="the exported folder: graphs (openvino_*.xml), config.json and a tokenizer")
    verb.add_argument(
        "out",
        nargs="?",
        type=Path,
        help="make a linked copy in this new folder instead; it gets a tokenizer and a template that fit, too",
    )
    verb.add_argument("--quiet", action="store_true", help="print only errors")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge adopt`; return the exit code."""
    from ..conversion import open_adoption

    with closing(open_adoption(args.folder, args.out)) as steps:
        last = show_progress(steps, quiet=args.quiet)
    if not args.quiet:
        print_text(last)
    return 0
