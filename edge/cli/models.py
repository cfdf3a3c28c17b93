"""`edge models`: list the published models, with their sizes by recipe."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .output import print_json, print_table, print_text
from .shared_flags import add_json

if TYPE_CHECKING:
    from ..catalogue import CatalogueEntry


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge models`."""
    verb = verbs.add_parser(
        "models",
        help="list the models that can be converted, with their sizes",
        description="List the published GLM-4 models that can be converted, with context, licence, and the disk space "
        "and memory that they need: to choose one for your machine.",
        epilog="Example:\n\n    edge models GLM-4-9B-0414",
    )
    verb.add_argument("model", nargs="?", help="show this model only, by any of its names")
    add_json(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge models`; return the exit code."""
    from ..catalogue import CATALOGUE, get_entry

    entries = [get_entry(args.model)] if args.model else list(CATALOGUE.values())
    if args.json:
        print_json([_facts(entry) for entry in entries])
    else:
        _show(entries)
    return 0


def _facts(entry: "CatalogueEntry") -> dict[str, Any]:
    from convert.recipe import RECIPES

    vision = entry.architecture.vision is not None
    # What keeps blocks is for weights that are quantised already.
    names = [name for name, recipe in RECIPES.items() if not (recipe.vision_obstacle if vision else recipe.keep_blocks)]
    recipes = {name: {"disk": entry.disk_bytes(name), "memory": entry.memory_bytes(name)} for name in names}
    return asdict(entry) | {"recipes": recipes}


def _show(entries: "list[CatalogueEntry]") -> None:
    from rich.table import Table

    from convert.recipe import default_recipe

    table = Table(box=None, pad_edge=False)
    for column in ("model", "prompts", "context", "licence"):
        table.add_column(column)
    for column in ("default\ndisk", "default\nmemory", "int8\ndisk", "int8\nmemory"):
        table.add_column(column, justify="right")
    for entry in entries:
        recipes = (default_recipe(vision=entry.architecture.vision is not None), "int8")
        sizes = (size(recipe) for recipe in recipes for size in (entry.disk_bytes, entry.memory_bytes))
        table.add_row(
            entry.name,
            entry.family,
            f"{entry.architecture.context:,}",
            entry.licence,
            *(f"{size / 1e9:.1f} GB" for size in sizes),
        )
    print_table(table, may_drop=True)
    for text in dict.fromkeys(entry.obliges for entry in entries if entry.obliges):
        print_text(text)
