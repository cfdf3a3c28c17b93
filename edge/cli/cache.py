"""`edge cache`: list or clear the cache of compiled models."""

import argparse
import time
from dataclasses import asdict

from .output import print_json, print_text
from .shared_flags import add_json


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge cache`."""
    verb = verbs.add_parser(
        "cache",
        help="list or clear the compiled models of GPU and NPU",
        description="List the models compiled for GPU and NPU, which are kept so that the next load is quick; clear "
        "them to free disk space.",
        epilog="Example:\n\n    edge cache --clear",
    )
    verb.add_argument("--clear", action="store_true", help="remove all of them")
    add_json(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge cache`; return the exit code."""
    from runtime.device.memory import format_bytes
    from runtime.folder import compile_cache

    entries = compile_cache.clear() if args.clear else compile_cache.list_models()
    if args.json:
        found = [asdict(entry) | {"path": str(entry.path)} for entry in entries]
        print_json(
            {"folder": str(compile_cache.compiled_root()), "limit": compile_cache.MAX_CACHE_BYTES, "compiled": found}
        )
        return 0
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        print_text(f"{entry.model} on {entry.device}: {format_bytes(entry.size)}, last used {used}")
    total, limit = format_bytes(sum(entry.size for entry in entries)), format_bytes(compile_cache.MAX_CACHE_BYTES)
    done = "removed" if args.clear else f"kept, of at most {limit}"
    print_text(f"{compile_cache.compiled_root()}: {total} in {len(entries)} {done}")
    return 0
