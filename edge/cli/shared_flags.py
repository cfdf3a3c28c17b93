"""Arguments that several commands share, with one help text each."""

import argparse

from .numbers import integer, number


def add_model(verb: argparse.ArgumentParser, *, servers: bool = False) -> None:
    """Add the positional argument `folder`: a model folder, or the checkpoint that an engine runs as it is."""
    engines = "PyTorch or a server" if servers else "PyTorch"
    verb.add_argument(
        "folder",
        help=f"a model folder or a name in `edge list`; for {engines}, a checkpoint or the name of a model in "
        "`edge models`",
    )


def add_device(verb: argparse.ArgumentParser, *, servers: bool = False) -> None:
    """Add `--device`. Only with `servers` does its help mention the URL of a server."""
    last = "or a server's URL" if servers else "or an engine such as torch"
    first = "auto, a device such as CPU or GPU, " + ("an engine such as torch, " if servers else "")
    verb.add_argument("--device", default="auto", help=first + last)


def add_context(verb: argparse.ArgumentParser) -> None:
    """Add `--context`."""
    verb.add_argument(
        "--context",
        type=integer("--context"),
        metavar="N",
        help="tokens of prompt and reply to plan memory for, on an NPU also the limit (default: 8192, on an NPU 4096)",
    )


def add_adapter(verb: argparse.ArgumentParser) -> None:
    """Add `--adapter`."""
    verb.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="DIR[@WEIGHT]",
        help="a LoRA adapter to load with the model; may be repeated, the updates add up (default: none)",
    )


def add_no_verify(verb: argparse.ArgumentParser) -> None:
    """Add `--no-verify`."""
    verb.add_argument(
        "--no-verify", dest="verify", action="store_false", help="load the folder without checking its files' hashes"
    )


def add_temperature(verb: argparse.ArgumentParser) -> None:
    """Add `--temperature`."""
    verb.add_argument(
        "--temperature",
        type=number("--temperature", 0, 5),
        metavar="T",
        help="0 (greedy) to 5 (default: the checkpoint's)",
    )


def add_json(verb: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    verb.add_argument("--json", action="store_true", help="print JSON instead of text")
