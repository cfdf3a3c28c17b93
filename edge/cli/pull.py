"""`edge pull`: download a model by its name, and convert it into the store."""

import argparse
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from .confirm import can_ask, confirm
from .output import print_text

if TYPE_CHECKING:
    from ..pull import PullPlan
    from ..store.model_store import StoredModel

_LARGE_BYTES = 2 * 10**9  # of a download, above which a person is asked


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge pull`."""
    verb = verbs.add_parser(
        "pull",
        help="download a model by its name, and convert it into your store",
        description="Download a model by its name and convert it into your store, where all commands find it by that "
        "name. An interrupted download or conversion is resumed by the same command.",
        epilog="Examples:\n\n    edge pull glm-4-9b-0414\n    edge pull z1-9b --recipe int8 --yes",
    )
    verb.add_argument("name", help="a model in `edge models`, in any case, or OWNER/NAME of the hub")
    add_pull_flags(verb)
    verb.add_argument("--quiet", action="store_true", help="print only questions and errors")
    verb.set_defaults(run=run)


def add_pull_flags(verb: argparse.ArgumentParser) -> None:
    """Add the flags that `edge pull` and `edge run` share."""
    verb.add_argument(
        "--recipe",
        metavar="NAME",
        help="one of `edge recipes` (default: int4-fit; int4 for vision models; stored if the weights are "
        "quantised in 4 bits already)",
    )
    verb.add_argument(
        "--hub",
        choices=("huggingface", "modelscope"),
        default="huggingface",
        help="where the model is downloaded from",
    )
    verb.add_argument(
        "--revision", metavar="R", help="the branch, tag or commit to download (default: the main branch)"
    )
    verb.add_argument("--yes", action="store_true", help="download without a question")
    verb.add_argument(
        "--delete-download", action="store_true", help="delete the downloaded checkpoint once it is converted"
    )


def run(args: argparse.Namespace) -> int:
    """Run `edge pull`; return the exit code."""
    model = pull(args, quiet=args.quiet)
    if not args.quiet:
        print_text(f"{model.name} is in {model.path}: `edge run {model.name}` chats with it")
    return 0


def pull(args: argparse.Namespace, *, quiet: bool = False) -> "StoredModel":
    """Return the model of the store that `args.name` means. If there is none, download and convert it first, after a
    question if it is large. Raises EdgeError."""
    from runtime.errors import RequestError

    from ..pull import plan_pull
    from ..store.model_name import ModelName
    from ..store.model_store import find_model
    from ..store.pull_lock import pull_lock

    name = ModelName.parse(args.name)
    if args.recipe:
        if name.recipe not in (None, args.recipe):
            raise RequestError(f"{args.name} and --recipe {args.recipe} are two recipes", hint="leave one of them out")
        name = ModelName(name.name, args.recipe)
    if found := find_model(name):
        return found
    with pull_lock(name, _report_wait):
        if found := find_model(name):  # pulled by another process in the meantime
            return found
        plan = plan_pull(name, name.recipe, revision=args.revision, hub=args.hub)
        _announce(plan, quiet=quiet, ask=not args.yes)
        _convert(plan, quiet=quiet)
        _offer_removal(plan, remove=args.delete_download, quiet=quiet)
    found = find_model(name)
    if found is None:
        raise RuntimeError(f"{name} was converted, but is not in the store")
    return found


def _report_wait(process: int) -> None:
    print_text(f"Process {process} downloads and converts this model already: waiting for it.", file=sys.stderr)


def _announce(plan: "PullPlan", *, quiet: bool, ask: bool) -> None:
    """Print what the model needs and what its licence asks for. Raises RequestError if the user declines."""
    from runtime.device.memory import format_bytes
    from runtime.errors import RequestError

    missing = plan.missing or 0
    if plan.total is None:
        download = "its download is not known: the hub does not answer"
    elif not missing:
        download = f"its checkpoint of {format_bytes(plan.total)} is downloaded already"
    else:
        rest = "" if missing == plan.total else f" of {format_bytes(plan.total)}"
        download = f"{format_bytes(missing)}{rest} to download"
    recipe = plan.name.recipe or "its own quantisation"
    lines = [
        f"{plan.name.name}, {recipe}: {download}, {format_bytes(plan.disk)} on the disk when it is converted.",
        f"Converting it takes {format_bytes(plan.memory)} of memory, a chat on the CPU {format_bytes(plan.running)}.",
        f"Licence: {plan.licence or 'not stated'}." + (f" {plan.obliges}." if plan.obliges else ""),
    ]
    if not quiet or plan.obliges:
        for line in lines if not quiet else lines[-1:]:
            print_text(line, file=sys.stderr)
    if ask and missing >= _LARGE_BYTES and not confirm(f"Download {format_bytes(missing)}?"):
        raise RequestError("nothing was downloaded", hint="`edge models` lists smaller models")


def _convert(plan: "PullPlan", *, quiet: bool) -> None:
    from ..pull import open_pull
    from .convert import show_progress

    try:
        steps = open_pull(plan, quiet=quiet)
        with closing(steps):
            last = show_progress(steps, quiet=quiet)
    except KeyboardInterrupt as exc:
        exc.add_note("the same command resumes")
        raise
    if not quiet:
        print_text(last, file=sys.stderr)


def _offer_removal(plan: "PullPlan", *, remove: bool, quiet: bool) -> None:
    """Remove the download if that was asked for, or if the user agrees."""
    from runtime.device.memory import format_bytes

    from ..pull import download_bytes, remove_download

    if not (nbytes := download_bytes(plan)):
        return
    size = format_bytes(nbytes)
    if remove or (can_ask() and confirm(f"Delete the download of {size}? The model no longer needs it.")):
        remove_download(plan)
        if not quiet:
            print_text(f"Deleted {size}.", file=sys.stderr)
    elif not quiet:
        print_text(f"The download stays in {plan.cache}: {size}.", file=sys.stderr)
