"""The command line. A verb is a module with `add` (its arguments) and `run`; its work is imported when it runs."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from runtime.errors import EdgeError, Notice
from runtime.system.files import TEMPORARY_CURE, is_temporary_folder_missing
from runtime.system.out_of_memory import CURE, MESSAGE, is_out_of_memory
from runtime.version import VERSION

from . import (
    bench,
    cache,
    chat,
    complete,
    convert,
    demo,
    devices,
    doctor,
    evaluate,
    export_template,
    inspect,
    models,
    recipes,
    research,
    serve,
    service,
    streams,
)
from .output import print_text

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_SIGNAL_EXIT = 128  # plus its number is the exit code of what a signal ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, 1 for an error (one line and a hint), 130 for Ctrl-C, 143 for
    SIGTERM."""
    streams.prepare()
    warnings.showwarning = _print_notice  # type: ignore[assignment]
    try:
        args = parser().parse_args(arguments)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except EdgeError as exc:
        return _print_error(str(exc), exc.hint) if not is_out_of_memory(exc) else _print_error(MESSAGE, CURE)
    except KeyboardInterrupt as exc:
        _print_stopped(exc)
        return 130
    except SystemExit as exc:
        if not isinstance(exc.code, int) or exc.code <= _SIGNAL_EXIT:
            raise
        _print_stopped(exc)  # by SIGTERM, or with its terminal
        return exc.code
    except BrokenPipeError:  # `edge … | head`: nobody reads on
        _discard_output()
        return 1
    except Exception as exc:
        if is_out_of_memory(exc):
            return _print_error(MESSAGE, CURE)
        if is_temporary_folder_missing(exc):
            return _print_error("no folder for temporary files can be written", TEMPORARY_CURE)
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
    """What is still in the buffer would fail again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_stopped(exc: BaseException) -> None:
    with suppress(OSError):  # the terminal may be gone
        print("; ".join(("stopped", *getattr(exc, "__notes__", ()))), file=sys.stderr)


def _print_notice(message: Warning | str, *_: object) -> None:
    if isinstance(message, Notice):
        with suppress(OSError):
            print_text(f"note: {message}", file=sys.stderr)


class _ArgumentParser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        """Print --help and --version, and raise OSError where that fails: argparse itself ignores it."""
        if file is sys.stdout:
            print(message, end="", flush=True)
        else:
            super()._print_message(message, file)


def parser() -> argparse.ArgumentParser:
    top = _ArgumentParser(prog="edge", description="GLM-4 on laptops, edge boxes and kiosks.")
    top.add_argument("--version", action="version", version=f"glm4-edge {VERSION}")
    verbs = top.add_subparsers(metavar="COMMAND", required=True)
    for verb in (
        demo, models, recipes, convert, chat, complete, inspect, bench, evaluate, research, serve, service,
        devices, doctor, cache, export_template,
    ):  # fmt: skip
        verb.add(verbs)
    return top
