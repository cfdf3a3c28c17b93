"""`edge kernel`: build the kernel for int4 matrices on CPUs."""

import argparse

from .output import print_text


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge kernel`."""
    verb = verbs.add_parser(
        "kernel",
        help="build the kernel that makes int4 models faster on this CPU",
        description="Build our own product of int4 matrices with the C++ compiler of this machine, and check it. From "
        "then on, models in int4 load in a second, take half the memory and answer faster: the kernel reads their "
        "weights as they lie in the file. On Linux, for x86-64 with AVX2 or more; built again after an upgrade of "
        "OpenVINO. `edge data kernel --delete` removes it.",
        epilog="Example:\n\n    edge kernel",
    )
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge kernel`; return the exit code."""
    from runtime.backends.openvino.int4.library import build_library, find_instructions

    path = build_library()
    print_text(f"{path}: built and checked, with {find_instructions(path)}")
    return 0
