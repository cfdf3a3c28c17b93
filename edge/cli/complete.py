"""`edge complete`: continue a text, as base models do."""

import argparse
from contextlib import closing

from runtime.errors import RequestError

from .numbers import integer, number
from .output import print_text
from .streams import read_stdin


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge complete`."""
    verb = verbs.add_parser("complete", help="go on from a text: what a base model is for")
    verb.add_argument(
        "folder", help="a model folder; for PyTorch or a server a checkpoint, or a model of `edge models` to fetch"
    )
    verb.add_argument("--prompt", metavar="TEXT", help="the text; without it, what is piped in")
    verb.add_argument(
        "--device", default="auto", help="auto (the default), a device's name such as CPU or torch, or a server's URL"
    )
    verb.add_argument(
        "--temperature", type=number("--temperature", 0, 5), help="0 is greedy; the default is the checkpoint's own"
    )
    verb.add_argument(
        "--max-new-tokens", type=integer("--max-new-tokens"), default=256, help="at most so many tokens (256)"
    )
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge complete`; return the exit code."""
    from runtime.messages import Text
    from runtime.model import Model

    from ..hub.resolve import resolve_model

    text = read_stdin().rstrip("\n") if args.prompt is None else args.prompt
    if not text.strip():
        raise RequestError("there is no text to continue", hint='use --prompt "Once upon a time", or pipe a text')
    folder = resolve_model((args.device,), args.folder)
    sampling = folder.sampling().override(temperature=args.temperature, max_new_tokens=args.max_new_tokens)
    with Model(folder, device=args.device) as model, closing(model.complete(text, sampling)) as events:
        for event in events:
            if isinstance(event, Text):
                print_text(event.text, end="", flush=True)
    print()
    return 0
