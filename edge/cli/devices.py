"""`edge devices`: list the devices and engines of this machine."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from .output import print_json, print_table, print_text
from .shared_flags import add_json

if TYPE_CHECKING:
    from runtime.device.machine import Machine


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge devices`."""
    verb = verbs.add_parser(
        "devices",
        help="list the devices and engines of this machine",
        description="List the devices and engines on which this machine can run a model, and the drivers that are "
        "missing.",
        epilog="Example:\n\n    edge devices --json",
    )
    add_json(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge devices`; return the exit code."""
    from runtime.device.machine import detect

    machine = detect()
    if args.json:
        print_json(asdict(machine))
    else:
        show_machine(machine)
    return 0


def show_machine(machine: "Machine") -> None:
    """Print a table of the devices, and what is missing."""
    from rich.table import Table

    from runtime.backends.openvino.int4.advice import describe_kernel
    from runtime.device.machine import NPU_GENERATIONS, SERVERS_VARIABLE
    from runtime.device.memory import format_bytes

    table = Table(box=None, pad_edge=False)
    for column in ("device", "name", "memory", "facts"):
        table.add_column(column, overflow="fold")
    cpu = machine.cpu
    memory = f"{format_bytes(machine.memory)}, {format_bytes(machine.free)} free"
    table.add_row("CPU", cpu.name, memory, f"{cpu.cores} cores; {', '.join(cpu.isa) or 'no AVX2'}")
    for gpu in machine.gpus:
        kind = "integrated" if gpu.integrated else "its own memory"
        largest = f"at most {format_bytes(gpu.largest_allocation)} at once"
        table.add_row(
            gpu.device, gpu.name, format_bytes(gpu.memory), f"{kind}; {largest}; driver {gpu.driver or 'unknown'}"
        )
    for npu in machine.npus:
        generation = f"{npu.generation} ({NPU_GENERATIONS.get(npu.generation, 'a newer one')})"
        table.add_row(npu.device, npu.name, "the machine's", f"{generation}; driver {npu.driver or 'unknown'}")
    for card in machine.cuda:
        table.add_row(
            "CUDA", card.name, f"{format_bytes(card.memory)}, {format_bytes(card.free)} free", "for the engine torch"
        )
    for url in machine.servers:
        table.add_row("server", url, "", f"of {SERVERS_VARIABLE}")
    print_table(table)
    print("engines: " + ", ".join(f"{name} {version}" for name, version in machine.packages.items()))
    if kernel := describe_kernel():
        print_text(f"int4 kernel: {kernel}")
    for missing in machine.missing:
        print_text(f"{missing.device}: {missing.what} is missing. {missing.cure}")
