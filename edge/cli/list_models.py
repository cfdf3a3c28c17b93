"""`edge list`: list the models of your store."""

import argparse
from typing import TYPE_CHECKING, Any

from .output import print_json, print_table, print_text
from .shared_flags import add_json

if TYPE_CHECKING:
    from ..store.model_store import StoredModel


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge list`."""
    verb = verbs.add_parser(
        "list",
        help="list your models, which `edge run` and `edge pull` converted",
        description="List the models of your store, with recipe, size, date and licence, and what interrupted "
        "conversions have left there. Every command takes these names instead of a model folder.",
        epilog="Example:\n\n    edge list",
    )
    add_json(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge list`; return the exit code."""
    from runtime.device.memory import format_bytes
    from runtime.system.files import folder_bytes

    from ..store.model_store import list_models, store_root
    from ..store.removal import leftover_name, list_leftovers

    models = list_models()
    leftovers = [(str(leftover_name(path)), path, folder_bytes(path)) for path in list_leftovers()]
    if args.json:
        left = [{"name": name, "path": str(path), "size": size} for name, path, size in leftovers]
        print_json({"store": str(store_root()), "models": [_facts(model) for model in models], "leftovers": left})
        return 0
    if models:
        _show(models)
    else:
        print_text(f"There are no models in {store_root()}: `edge run glm-4-9b-0414` gets one.")
    for name, _, size in leftovers:
        print_text(
            f"An interrupted conversion of {name} has left {format_bytes(size)}: `edge pull {name}` resumes it, "
            f"`edge rm {name}` removes it."
        )
    return 0


def _facts(model: "StoredModel") -> dict[str, Any]:
    return {
        "name": str(model.name),
        "recipe": model.name.recipe,
        "size": model.size,
        "created": model.created.isoformat() if model.created else None,
        "licence": model.licence,
        "path": str(model.path),
        "damage": model.damage,
    }


def _show(models: "list[StoredModel]") -> None:
    from rich.table import Table

    from runtime.device.memory import format_bytes

    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("recipe", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("converted", no_wrap=True)
    table.add_column("licence")
    for model in models:
        size = format_bytes(model.size) if not model.damage else "damaged"
        date = f"{model.created.astimezone():%Y-%m-%d %H:%M}" if model.created else ""
        table.add_row(model.name.name, model.name.recipe, size, date, model.damage or model.licence or "not stated")
    print_table(table)
