"""`edge batch`: run a file of requests, such as those of OpenAI's batch API."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from .config_flags import add_settings, load_config, read_flags
from .output import print_text
from .serve import open_pool, resolve_folders

SECTIONS = ("models", "options", "limits", "sampling")
SHOWN = ("--device", "--parallel", "--context")
_REQUEST_SECONDS = 7 * 24 * 3600.0  # a server's clients do not wait for so long


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge batch`."""
    verb = verbs.add_parser(
        "batch",
        help="run a file of requests in OpenAI's batch format",
        description="Run a file of requests, many at once, and write their results: JSONL as of OpenAI's batch API. "
        "For machines at night. An interrupted run goes on where it was when it is started again.",
        epilog="Example:\n\n    edge batch requests.jsonl results.jsonl --model ./glm4-int4",
    )
    verb.add_argument("input", type=Path, help="the requests, a line of JSON each: custom_id, method, url, body")
    verb.add_argument(
        "output",
        type=Path,
        help="the results, a line of JSON each, in the order of the requests; until all are there, they are in a file "
        "of this name with .partial",
    )
    verb.add_argument(
        "--model",
        metavar="FOLDER",
        action="append",
        default=[],
        help="a model folder or a name in `edge list`, FOLDER or NAME=FOLDER; may be repeated (default: those of "
        "[models] in edge.toml)",
    )
    add_settings(verb, SECTIONS, SHOWN)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge batch`; return the exit code."""
    from dataclasses import replace

    from runtime.backends.choose import require_context
    from runtime.errors import RequestError
    from runtime.system.installation import install_hint

    if any(find_spec(name) is None for name in ("starlette", "prometheus_client")):
        raise RequestError("the server's packages are not installed", hint=install_hint("serve"))
    config = load_config(args)
    folders = resolve_folders(args.model or ()) or config.models.folders
    if not folders:
        raise RequestError("there is no model to run the requests", hint="add --model FOLDER")

    from ..server.batch.offline import run_file

    timeout = read_flags(args).get("limits", {}).get("timeout", _REQUEST_SECONDS)
    limits = replace(config.limits, timeout=timeout, queue=max(config.limits.queue, config.limits.parallel))
    config = replace(config, limits=limits)
    pool = open_pool(config, folders)
    for entry in pool.entries.values():
        require_context(entry.source.manifest, entry.options)
    try:
        done = run_file(
            pool,
            args.input,
            args.output,
            parallel=limits.parallel,
            report=lambda line: print_text(line.replace("\n", " "), file=sys.stderr, flush=True),
        )
    except BaseException as exc:
        if not isinstance(exc, Exception):  # a signal
            exc.add_note("the same command goes on where it was")
        raise
    rate = done.completion_tokens / done.seconds if done.seconds else 0.0
    answered = f"{done.total - done.failed:,} of {done.total:,} requests answered"
    tokens = f"{done.completion_tokens:,} tokens in {done.seconds:.1f} s ({rate:.1f} tokens/s)"
    print_text(f"{answered}; {tokens}", file=sys.stderr)
    if done.failed:
        raise RequestError(
            f"{done.failed:,} of {done.total:,} requests failed",
            hint=f"{args.output} has the error of each; the same command runs them again",
        )
    return 0
