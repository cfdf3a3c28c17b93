"""`edge recipes`: list the recipes, with their sizes, devices and costs."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .output import print_json, print_table, print_text
from .shared_flags import add_json

if TYPE_CHECKING:
    from runtime.checkpoint.architecture import Architecture

_SHAPES = {"9B": "GLM-4-9B-0414", "32B": "GLM-4-32B-0414"}


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge recipes`."""
    verb = verbs.add_parser(
        "recipes",
        help="list the recipes of `edge convert`, and what each costs",
        description="List the recipes of `edge convert`, with bits per weight, size, conversion time and devices: to "
        "choose one for a model and a device.",
        epilog="Example:\n\n    edge recipes GLM-4-9B-0414",
    )
    verb.add_argument(
        "checkpoint", nargs="?", help="sizes for this model or checkpoint folder, instead of those of 9B and 32B"
    )
    add_json(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge recipes`; return the exit code."""
    models = _models(args.checkpoint)
    facts = _facts(models)
    if args.json:
        print_json(facts)
    else:
        _show(facts, list(models))
    return 0


def _models(checkpoint: str | None) -> "dict[str, Architecture]":
    from pathlib import Path

    from runtime.checkpoint.architecture import read_architecture, read_config

    from ..catalogue import CATALOGUE, get_entry

    if checkpoint is None:
        return {name: CATALOGUE[model].architecture for name, model in _SHAPES.items()}
    if Path(checkpoint).is_dir():
        return {Path(checkpoint).resolve().name: read_architecture(read_config(Path(checkpoint)))}
    entry = get_entry(checkpoint)
    return {entry.name: entry.architecture}


def _facts(models: "Mapping[str, Architecture]") -> list[dict[str, Any]]:
    """Return each recipe's record, its bits per weight for the first model, and bytes for every model."""
    from math import prod

    from convert.estimate import conversion_memory, disk_bytes, model_sizes
    from convert.recipe import RECIPES, default_recipe

    found = []
    first = next(iter(models.values()))
    weights = sum(prod(shape) for _, shape in first.shapes())
    vision = any(architecture.vision for architecture in models.values())
    for recipe in RECIPES.values():
        if vision and recipe.vision_obstacle:
            continue
        sizes = {name: model_sizes(architecture, recipe) for name, architecture in models.items()}
        found.append(
            recipe.to_json()
            | {
                "bits": round(8 * sizes[next(iter(models))].weights / weights, 2),
                "disk": {name: disk_bytes(architecture, recipe) for name, architecture in models.items()},
                "memory": {name: conversion_memory(models[name], recipe, size) for name, size in sizes.items()},
                "default": recipe.name == default_recipe(vision=vision),
                "devices": recipe.devices,
                "data": "texts" if recipe.needs_calibration else "none",
                "cost": recipe.cost,
            }
        )
    return found


def _show(facts: list[dict[str, Any]], models: list[str]) -> None:
    from rich.table import Table

    from runtime.device.memory import format_bytes

    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    for column in ("bits", *models, "memory"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("devices", "time", "summary"):
        table.add_column(column)
    for fact in facts:
        table.add_row(
            fact["name"],
            f"{fact['bits']:.1f}",
            *(format_bytes(fact["disk"][model]) for model in models),
            format_bytes(fact["memory"][models[-1]]),
            "all" if "NPU" in fact["devices"] else " ".join(fact["devices"]),
            fact["cost"],
            f"the default: {fact['summary']}" if fact["default"] else fact["summary"],
        )
    print_table(table)
    print_text(
        f"bits: average per weight of {models[0]}; memory: to convert {models[-1]}; time: to convert 9B on a laptop"
    )
