"""The command line. Each command is a module with `add` (its arguments) and `run`, which imports what it needs."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runtime.errors import EdgeError, Notice
from runtime.system.files import TEMPORARY_FOLDER_HINT, is_temporary_folder_missing
from runtime.system.out_of_memory import HINT, MESSAGE, is_out_of_memory
from runtime.version import VERSION

from . import (
    adopt,
    batch,
    bench,
    bundle,
    cache,
    chat,
    complete,
    convert,
    data,
    demo,
    devices,
    doctor,
    evaluate,
    export_template,
    inspect,
    kernel,
    list_models,
    mcp,
    models,
    pull,
    recipes,
    remove,
    research,
    serve,
    service,
    show,
    streams,
    upgrade,
)
from . import run as run_verb
from .help_format import HelpFormatter
from .output import print_text

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_SIGNAL_EXIT = 128  # a process ended by a signal exits with this plus the signal's number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code.

    It is 0, 1 after an error (printed with its hint), 130 after Ctrl-C, or 143 after SIGTERM.
    """
    streams.prepare()
    warnings.showwarning = _print_notice  # type: ignore[assignment]
    try:
        args = parser().parse_args(arguments)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except EdgeError as exc:
        return _print_error(str(exc), exc.hint) if not is_out_of_memory(exc) else _print_error(MESSAGE, HINT)
    except KeyboardInterrupt as exc:
        _print_stopped(exc)
        return 130
    except SystemExit as exc:
        if not isinstance(exc.code, int) or exc.code <= _SIGNAL_EXIT:
            raise
        _print_stopped(exc)  # SIGTERM, or SIGHUP from a closed terminal
        return exc.code
    except BrokenPipeError:  # `edge … | head`: the reader has gone
        _discard_output()
        return 1
    except Exception as exc:
        if is_out_of_memory(exc):
            return _print_error(MESSAGE, HINT)
        if is_temporary_folder_missing(exc):
            return _print_error("no folder for temporary files is writable", TEMPORARY_FOLDER_HINT)
        if not isinstance(exc, OSError) or exc.filename is not None:
            raise
        _discard_output()  # standard output is a file on a full disk
        return _print_error(
            f"the output cannot be written: {(exc.strerror or str(exc)).lower()}",
            "make room on the disk that it is written to",
        )


def _print_error(message: str, hint: str) -> int:
    with suppress(OSError):
        print_text(f"error: {message}", file=sys.stderr)
        if hint:
            print_text(f"hint: {hint}", file=sys.stderr)
    return 1


def _discard_output() -> None:
    """Send standard output to the null device: flushing its buffer at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_stopped(exc: BaseException) -> None:
    with suppress(OSError):  # the terminal may be gone
        print("; ".join(("stopped", *getattr(exc, "__notes__", ()))), file=sys.stderr)


def _print_notice(message: Warning | str, *_: object) -> None:
    if isinstance(message, Notice):
        with suppress(OSError):
            print_text(f"note: {message}", file=sys.stderr)


class _ArgumentParser(argparse.ArgumentParser):
    """An argument parser that lists defaults in its help, and reports failed writes. Its subparsers do the same."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter} | options)

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        """Print --help and --version. Raises OSError, which argparse itself ignores."""
        if file is sys.stdout:
            print(message, end="", flush=True)
        else:
            super()._print_message(message, file)


def parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    top = _ArgumentParser(
        prog="edge",
        description="GLM-4 on laptops, edge boxes and kiosks: conversion to OpenVINO, and a local chat with tools.",
        epilog="Exit codes: 0; 1 after an error, which is printed with a hint; 2 for a wrong command line; 130 after "
        "Ctrl-C; 143 after SIGTERM. `edge COMMAND --help` describes a command.\n\nExamples:\n\n    edge demo\n"
        "    edge run glm-4-9b-0414\n    edge convert ./GLM-4-9B-0414 ./glm4-int4\n    edge chat ./glm4-int4",
    )
    top.add_argument("--version", action="version", version=f"glm4-edge {VERSION}")
    verbs = top.add_subparsers(metavar="COMMAND", required=True)
    for verb in (
        demo, models, run_verb, pull, list_models, show, remove, recipes, convert, adopt, chat, complete, batch,
        inspect, upgrade, bundle, bench, evaluate, research, serve, service, mcp, devices, doctor, kernel, cache, data,
        export_template,
    ):  # fmt: skip
        verb.add(verbs)
    return top
