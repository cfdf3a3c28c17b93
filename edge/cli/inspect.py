"""`edge inspect`: show a model folder's manifest, and verify its files' hashes."""

import argparse
from collections.abc import Mapping
from typing import Any

from runtime.device.memory import format_bytes
from runtime.text import one_line

from .output import print_json, print_table
from .shared_flags import add_json


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge inspect`."""
    verb = verbs.add_parser(
        "inspect",
        help="show a model folder's manifest and verify its files",
        description="Show what a model folder was made from and how, and verify the hash of every file: before you "
        "ship a folder, or when one behaves oddly.",
        epilog="Example:\n\n    edge inspect ./glm4-int4 --json",
    )
    verb.add_argument("folder", help="a model folder, or a name in `edge list`")
    verb.add_argument(
        "--for",
        dest="device",
        metavar="NPU",
        type=str.upper,
        choices=("NPU",),
        help="check that the folder can run on an NPU (default: no check)",
    )
    add_json(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge inspect`; return the exit code."""
    from runtime.backends.choose import NPU_RECIPE, is_for_npu
    from runtime.errors import DeviceError
    from runtime.folder.ir import IR, NPU_HINT

    from ..catalogue import licence_duties
    from ..inspection import inspect
    from ..store.model_store import resolve_folder

    folder = inspect(resolve_folder(args.folder))
    facts: dict[str, Any] = folder.manifest.to_json() | {"path": str(folder.path), "size": folder.size, "checked": True}
    facts["licence_duties"] = licence_duties(folder.manifest)
    unfit: tuple[str, ...] = ()
    if args.device:
        unfit = IR.read(folder).npu_obstacles()
        facts["unfit"] = {"NPU": unfit}
        if not unfit and not is_for_npu(folder.manifest):
            facts["devices"] |= {"NPU": f"suitable; auto chooses an NPU only for the recipe {NPU_RECIPE}"}
    if args.json:
        print_json(facts)
    else:
        _show(facts)
        if args.device and not unfit:
            print("Suitable for an NPU: stateful, int4 throughout, symmetric, in groups of 128 or by row.")
    if unfit:
        raise DeviceError(f"{folder.path} is not suitable for an NPU: {'; '.join(unfit)}", hint=NPU_HINT)
    return 0


def _describe_sampling(settings: Mapping[str, Any] | None) -> str:
    if settings is None:
        return "as in generation_config.json"
    return ", ".join(f"{name} {value:g}" for name, value in settings.items()) or "greedy"


def _describe_vision(vision: Mapping[str, Any] | None) -> str:
    if vision is None:
        return "not supported: a text model"
    size, tower = vision["image_size"], f"an image tower of {format_bytes(vision['nbytes'])}"
    rule = f"{vision['tokens']:,} tokens each, resized to {size:,} x {size:,}" if size else "tokens as their size asks"
    return f"{rule}; {tower}"


def _show(facts: dict[str, Any]) -> None:
    from rich.table import Table

    from convert.recipe import verdict

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    source = facts["source"]
    rows: dict[str, object] = {
        "folder": facts["path"],
        "checkpoint": f"{source['name']} ({source['architecture']})",
        "adapters": ", ".join(f"{a['name']} @ {a['weight']:g} ({a['sha256'][:12]}…)" for a in facts["adapters"])
        or "none",
        "family": facts["family"],
        "task": facts["task"],
        "recipe": facts["recipe"],
        "context": f"{facts['context_length']:,} tokens",
        "stops at": one_line(", ".join(facts["stop_tokens"]), 500) or "the family's stop tokens",
        "sampling": _describe_sampling(facts["sampling"]),
        "KV cache": f"{facts['kv_bytes_per_token']:,} bytes a token in f16",
        "pictures": _describe_vision(facts["vision"]),
        "licence": facts["licence"] or "not stated",
        "duties": facts["licence_duties"] or "none but to keep the licence's text",
        "verified": verdict(facts["recipe"], facts["verification"]),
        "versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        **{f"on {device}": need for device, need in facts["devices"].items()},
        "attention": "paged: requests are batched" if facts["paged"] else "stateful: one request at a time",
        "notes": "; ".join(facts["notes"]) or "none",
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    for name, file in facts["files"].items():
        table.add_row(name, f"{file['size']:,} bytes, hash checked")
    print_table(table)
