"""`edge show`: show a model of your store, and verify its files' hashes."""

import argparse

from .shared_flags import add_json


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge show`."""
    verb = verbs.add_parser(
        "show",
        help="show a model of your store: where it is, and what `edge inspect` shows",
        description="Show where a model of your store is, what it was made from and how, and verify the hash of every "
        "file, as `edge inspect` does for any model folder.",
        epilog="Example:\n\n    edge show glm-4-9b-0414",
    )
    verb.add_argument("name", help="a name in `edge list`; with :RECIPE if there are several of that name")
    add_json(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge show`; return the exit code."""
    from ..store.model_store import require_model
    from . import inspect

    model = require_model(args.name)
    return inspect.run(argparse.Namespace(folder=str(model.path), device=None, json=args.json))
