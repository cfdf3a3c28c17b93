"""`edge doctor`: report devices, missing drivers, and whether a model folder fits each device."""

import argparse
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .output import print_json, print_table, print_text
from .shared_flags import add_context, add_json

if TYPE_CHECKING:
    from runtime.backends.backend import Options
    from runtime.backends.choose import Fit
    from runtime.device.machine import Machine
    from runtime.folder.model_folder import ModelFolder


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge doctor`."""
    verb = verbs.add_parser(
        "doctor",
        help="report missing drivers, and whether a model fits each device",
        description="Report the devices of this machine, the drivers that are missing, and whether a model folder fits "
        "the memory of each device: when a model does not load, or before a longer context.",
        epilog="Examples:\n\n    edge doctor ./glm4-int4 --context 8192\n"
        "    edge doctor ./glm4-int4 --report report.json",
    )
    verb.add_argument("folder", nargs="?", help="a model folder, or a name in `edge list`")
    add_context(verb)
    verb.add_argument(
        "--report",
        metavar="FILE",
        help="write a report for a bug, without paths, names, keys or messages (default: none)",
    )
    verb.add_argument(
        "--config",
        metavar="FILE",
        help="the settings file, whose numbers and choices go into the report (default: none)",
    )
    add_json(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge doctor`; return the exit code."""
    from runtime.backends.backend import Options
    from runtime.backends.openvino.int4.advice import describe_kernel
    from runtime.device.machine import detect
    from runtime.errors import Notice
    from runtime.folder.model_folder import ModelFolder
    from runtime.source import OTHER_TASKS

    from ..store.model_store import resolve_folder
    from . import devices

    folder = ModelFolder.open(resolve_folder(args.folder)) if args.folder else None
    manifest = folder.manifest if folder else None
    options = Options(context=args.context)
    if manifest and args.context and args.context > manifest.context_length:
        limit = f"{manifest.source.name} has a context of {manifest.context_length:,} tokens"
        warnings.warn(f"{limit}: using that instead of {args.context:,}", Notice, stacklevel=1)
    machine = detect()
    facts: dict[str, Any] = {"machine": asdict(machine), "int4_kernel": describe_kernel()}
    found = _assess(machine, folder, options, facts) if folder else ()
    if args.report:
        from ..diagnostics.bug_report import write_report

        written = write_report(args.report, machine, facts, folder, args.config)
        print_text(f"{written} is written. It has no paths, names, keys or messages; read it before you send it.")
        return 0
    if args.json:
        print_json(facts)
        return 0
    devices.show_machine(machine)
    if not machine.missing:
        print("Nothing is missing for the hardware that was found.")
    if manifest:
        print()
        if manifest.task in OTHER_TASKS:
            kind, runs = OTHER_TASKS[manifest.task]
            print_text(f"{manifest.source.name} is {kind}: {runs}.")
        _show(found)
        if any(fit.need.mapped for fit in found):
            print_text("mapped: weights that the int4 kernel reads from the file, whose pages the system may take back")
        print_text(f"auto: {facts['auto']['device'] or 'nothing fits'}: {facts['auto']['reason']}")
        if "tuned" in facts:
            print_text(f"CPU, {facts['tuned']}")
        if hint := facts["auto"].get("hint"):
            print_text(f"hint: {hint}")
    return 0


def _assess(machine: "Machine", folder: "ModelFolder", options: "Options", facts: dict[str, Any]) -> "tuple[Fit, ...]":
    """Return how the model fits each device, and add that and the choice of `auto` to the facts."""
    from runtime.backends.choose import assess_devices, choose_automatically
    from runtime.backends.openvino.int4.loading import find_mapped_weights
    from runtime.backends.tuned_settings import find_tuned_settings
    from runtime.errors import DeviceError

    tuned = find_tuned_settings(folder)
    mapped = find_mapped_weights(folder, "CPU", tuned.apply(options) if tuned else options)
    found = assess_devices(machine, folder.manifest, options, mapped)
    try:
        choice = choose_automatically(machine, folder.manifest, options, mapped)
        facts["auto"] = {"device": choice.device, "reason": choice.reason}
    except DeviceError as exc:
        facts["auto"] = {"device": None, "reason": str(exc), "hint": exc.hint}
    if tuned and tuned.settings:
        facts["tuned"] = str(tuned)
    facts["fits"] = [asdict(fit) | {"running": fit.need.running, "peak": fit.need.peak} for fit in found]
    return found


def _show(found: "tuple[Fit, ...]") -> None:
    from rich.table import Table

    from runtime.device.memory import format_bytes

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("device", no_wrap=True)
    columns = ["tokens", "weights", "KV", "other", "in all", "at load", "free"]
    pictures, mapped = any(fit.need.tower for fit in found), any(fit.need.mapped for fit in found)
    if pictures:
        columns.insert(3, "pictures")
    if mapped:
        columns.insert(2, "mapped")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("fits", overflow="fold")
    for fit in found:
        need = fit.need
        other = need.program + need.activations
        file, tower = [need.mapped] if mapped else [], [need.tower] if pictures else []
        sizes = (need.weights, *file, need.kv_cache, *tower, other, need.running, need.peak, fit.free)
        table.add_row(fit.device, f"{fit.context:,}", *map(format_bytes, sizes), fit.obstacle or "yes")
    print_table(table)
