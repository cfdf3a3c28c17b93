"""`edge rm`: remove a model from your store."""

import argparse

from .confirm import confirm
from .output import print_text


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge rm`."""
    verb = verbs.add_parser(
        "rm",
        help="remove a model from your store",
        description="Remove a model from your store, and what interrupted conversions of it have left there. A model "
        "that a running program has open stays; folders outside the store are never removed.",
        epilog="Example:\n\n    edge rm glm-4-9b-0414",
    )
    verb.add_argument("name", help="a name in `edge list`; with :RECIPE if there are several of that name")
    verb.add_argument("--yes", action="store_true", help="remove it without a question")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge rm`; return the exit code."""
    from runtime.device.memory import format_bytes

    from ..store.model_name import ModelName
    from ..store.model_store import find_model, require_model
    from ..store.removal import list_leftovers, remove_leftovers, remove_model

    name = ModelName.parse(args.name)
    left = list_leftovers(name)
    model = find_model(name) if left else require_model(args.name)
    what = f"{model.name} ({format_bytes(model.size)})" if model else f"an interrupted conversion of {name}"
    if not args.yes and not confirm(f"Remove {what}?"):
        return 0
    if model:
        remove_model(model)
    if left:
        remove_leftovers(name)
    print_text(f"{what} is removed")
    return 0
