"""`edge complete`: continue a text, as base models do."""

import argparse
from contextlib import closing

from runtime.errors import RequestError

from .numbers import integer
from .output import print_text
from .shared_flags import add_device, add_model, add_temperature
from .streams import read_stdin


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge complete`."""
    verb = verbs.add_parser(
        "complete",
        help="continue a text with a base model",
        description="Continue a text without a chat template, with a base model such as glm-4-9b.",
        epilog='Example:\n\n    edge complete ./glm4-base --prompt "Once upon a time" --max-new-tokens 50',
    )
    add_model(verb, servers=True)
    verb.add_argument("--prompt", metavar="TEXT", help="the text to continue (default: standard input)")
    add_device(verb, servers=True)
    add_temperature(verb)
    verb.add_argument(
        "--max-new-tokens",
        type=integer("--max-new-tokens"),
        default=256,
        metavar="N",
        help="most tokens to generate",
    )
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge complete`; return the exit code."""
    from runtime.events import Text
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
