"""`edge data`: list or delete what we keep on this machine."""

import argparse
from typing import TYPE_CHECKING

from .output import print_json, print_table, print_text
from .shared_flags import add_json

if TYPE_CHECKING:
    from ..diagnostics.kept_data import KeptData


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge data`."""
    verb = verbs.add_parser(
        "data",
        help="list or delete what is kept on this machine",
        description="List the data that is kept on this machine without your having named a place for it: what, why, "
        "where, and how much. Files that you named, such as model folders and saved chats, are not among it.",
        epilog="Examples:\n\n    edge data\n    edge data logs --delete",
    )
    verb.add_argument("kind", nargs="*", help="the kinds of data, as they are listed (default: all)")
    verb.add_argument("--delete", action="store_true", help="delete them, after a question")
    verb.add_argument("--yes", action="store_true", help="delete without a question")
    add_json(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge data`; return the exit code."""
    from runtime.device.memory import format_bytes

    from ..diagnostics.kept_data import NAMES, find_data

    found = find_data(args.kind or NAMES)
    if args.json and not args.delete:
        keys = ("kind", "what", "why", "path", "beside", "bytes", "files")
        rows = [
            (d.kind.name, d.kind.what, d.kind.why, str(d.path), list(map(str, d.beside)), d.size, d.files)
            for d in found
        ]
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return 0
    if not found:
        print("Nothing is kept.")
        return 0
    _show(found)
    if not args.delete:
        return 0
    total = format_bytes(sum(data.size for data in found))
    if not args.yes and not _confirm(f"Delete {total} in {sum(data.files for data in found):,} files? [y/N] "):
        print("Nothing was deleted.")
        return 1
    return _delete(found)


def _show(found: "list[KeptData]") -> None:
    from rich.table import Table

    from runtime.device.memory import format_bytes

    table = Table(box=None, pad_edge=False)
    for column in ("kind", "size", "what", "where"):
        table.add_column(column, overflow="fold")
    for data in found:
        table.add_row(data.kind.name, format_bytes(data.size), data.kind.what, str(data.path))
    print_table(table)


def _confirm(question: str) -> bool:
    """Ask at the terminal. Raises RequestError where nobody can answer."""
    import sys

    from runtime.errors import RequestError

    from .streams import is_terminal

    if not is_terminal(sys.stdin):
        raise RequestError("nobody can be asked whether to delete them", hint="add --yes")
    print_text(question, end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _delete(found: "list[KeptData]") -> int:
    from ..diagnostics.kept_data import delete_data

    status = 0
    for data in found:
        obstacle = delete_data(data)
        print_text(f"{data.path}: {obstacle or 'deleted'}")
        status |= bool(obstacle)
    return status
