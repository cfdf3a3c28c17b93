"""`edge upgrade`: bring a model folder of an earlier version up to this one."""

import argparse

from .output import print_text


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge upgrade`."""
    verb = verbs.add_parser(
        "upgrade",
        help="bring a model folder of an earlier version up to this one",
        description="Add to a model folder's manifest what earlier versions did not write: stop tokens, sampling "
        "settings, its own hash. The hashes of all files are checked first; the weights stay as they are.",
        epilog="Example:\n\n    edge upgrade ./glm4-int4",
    )
    verb.add_argument("folder", help="a model folder, or a name in `edge list`")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge upgrade`; return the exit code."""
    from ..folder_upgrade import upgrade
    from ..store.model_store import resolve_folder

    added = upgrade(resolve_folder(args.folder))
    print_text(f"{args.folder}: added {', '.join(added)}" if added else f"{args.folder} is up to date")
    return 0
