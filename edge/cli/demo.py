"""`edge demo`: convert the embedded checkpoint and chat with it, without a network."""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .output import print_text

if TYPE_CHECKING:
    from runtime.chat import Chat

_NEXT_STEPS = """
The installation works: these were all the steps, on a tiny model. Next, with a GLM-4 checkpoint:

    edge convert ./GLM-4-9B-0414 ./glm4-int4
    edge chat ./glm4-int4
"""


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge demo`."""
    verb = verbs.add_parser(
        "demo",
        help="convert the embedded test model, chat with it, and call a function",
        description="Check an installation: convert the embedded test model, chat with it in English and Chinese, and "
        "let it call a Python function. It needs no network.",
        epilog="Example:\n\n    edge demo --keep ./demo-int4",
    )
    verb.add_argument("--recipe", default="int4-fit", metavar="NAME", help="one of `edge recipes` (default: int4-fit)")
    verb.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="where to write the model folder (default: a temporary folder, removed at the end)",
    )
    verb.set_defaults(run=run)


def disk_free(path: str) -> str:
    """Free disk space of a path, in GB."""
    return f"{shutil.disk_usage(path).free / 1e9:.1f} GB"


def processors() -> int:
    """Number of processor cores of this computer."""
    return os.cpu_count() or 1


def run(args: argparse.Namespace) -> int:
    """Run `edge demo`; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="edge-demo-", ignore_cleanup_errors=True) as scratch:
        _demo(args.keep or Path(scratch) / "model", args.recipe)
    print(_NEXT_STEPS)
    return 0


def _demo(folder: Path, recipe: str) -> None:
    from convert.pipeline import convert
    from runtime.chat import Chat

    from ..demo import CHECKPOINT
    from .convert import show_progress

    print(f"Converting the embedded checkpoint with the recipe {recipe} …", flush=True)
    print_text(show_progress(convert(CHECKPOINT, folder, recipe)))
    with Chat(folder, tools=[disk_free, processors]) as chat:
        for question in ("Who are you?", "洗手间在哪里？", f"How much disk is free on {Path.cwd().anchor}?"):
            _print_exchange(chat, question)


def _print_exchange(chat: "Chat", question: str) -> None:
    from runtime.events import Finish, Text, ToolCall, ToolResult

    print(f"\n> {question}")
    for event in chat.stream(question):
        match event:
            case Text(text):
                print_text(text, end="", flush=True)
            case ToolCall(name, arguments):
                print_text(f"[calls {name} with {arguments}]", flush=True)
            case ToolResult(content=content):
                print_text(f"[it returns {content}]", flush=True)
            case Finish(usage=usage):
                rate = usage.completion_tokens / usage.seconds if usage.seconds else 0.0
                tokens, ttft = usage.completion_tokens, usage.ttft * 1000
                print(f"\n  ({tokens} tokens, {ttft:.0f} ms to the first, {rate:.0f} a second)")
