"""`edge chat`: chat in the terminal, or answer piped input."""

import argparse
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from runtime.errors import EdgeError, RequestError

from .message_input import MessageInput
from .numbers import integer, number
from .output import print_text
from .shared_flags import add_adapter, add_context, add_device, add_model, add_no_verify, add_temperature
from .streams import is_terminal, read_stdin, supports_ansi

if TYPE_CHECKING:
    from runtime.backends.backend import Options
    from runtime.chat import Chat

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_COMMANDS = ("/exit", "/load", "/reset", "/save")
HELP = "/reset starts a new chat; /save FILE and /load FILE store and restore it; Ctrl-C stops a reply; /exit ends."


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge chat`."""
    verb = verbs.add_parser(
        "chat",
        help="chat with a model in the terminal",
        description="Chat with a model in the terminal. With a question on standard input, print the answer alone, for "
        "scripts and pipes.",
        epilog=f"{HELP}\n\nExamples:\n\n    edge chat ./glm4-int4\n"
        '    echo "What is 6 times 7?" | edge chat ./glm4-int4 --temperature 0',
    )
    add_model(verb, servers=True)
    add_device(verb, servers=True)
    verb.add_argument(
        "--fallback",
        action="append",
        default=[],
        metavar="DEVICE",
        help="a device to try if the first cannot load the model; may be repeated (default: none)",
    )
    verb.add_argument("--system", default="", metavar="TEXT", help="the system message (default: none)")
    add_temperature(verb)
    verb.add_argument(
        "--top-p",
        type=number("--top-p", 0, 1),
        metavar="P",
        help="sample from the most probable tokens that add up to P; more than 0, at most 1 "
        "(default: the checkpoint's)",
    )
    verb.add_argument(
        "--seed",
        type=integer("--seed", 0, 2**63 - 1),
        metavar="N",
        help="make sampled replies reproducible (default: a different one each time)",
    )
    verb.add_argument(
        "--max-new-tokens",
        type=integer("--max-new-tokens"),
        metavar="N",
        help="most tokens of a reply, reasoning and calls included (default: what fits in the context)",
    )
    add_adapter(verb)
    add_context(verb)
    add_no_verify(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge chat`; return the exit code."""
    from runtime.backends.backend import Options
    from runtime.chat import Chat
    from runtime.checkpoint.adapters.reference import parse_adapters

    from ..hub.resolve import resolve_model

    piped = "" if is_terminal(sys.stdin) else read_stdin().strip()
    if not piped and not is_terminal(sys.stdin):
        raise RequestError(
            "there is no question: standard input is empty",
            hint='run it in a terminal, or pipe a question: echo "Who are you?" | edge chat FOLDER',
        )
    folder = resolve_model((args.device, *args.fallback), args.folder)
    sampling = folder.sampling().override(
        temperature=args.temperature, top_p=args.top_p, seed=args.seed, max_new_tokens=args.max_new_tokens
    )
    options = Options(context=args.context, verify=args.verify, adapters=parse_adapters(args.adapter))
    with Chat(
        folder, device=args.device, fallback=args.fallback, system=args.system, sampling=sampling, options=options
    ) as chat:
        if piped:
            print_reply(chat, piped)
        else:
            _chat_loop(chat, options)
    return 0


def _chat_loop(chat: "Chat", options: "Options") -> None:
    manifest = chat.model.source.manifest
    choice = chat.model.choice
    adapters = "".join(f", with {adapter}" for adapter in options.adapters)
    if choice:
        print_text(f"{manifest.source.name}, {manifest.recipe}{adapters}, on {choice.device}: {choice.reason}.")
    print(HELP)
    for text in MessageInput(_COMMANDS):
        name, *value = text.split(maxsplit=1)
        if name == "/exit":
            return
        try:
            if text.startswith("/") and "\n" not in text:
                _run_command(chat, name, *value)
            else:
                print_reply(chat, text)
        except KeyboardInterrupt:
            print(" [stopped]")
        except EdgeError as exc:
            print_text(f"{exc}\n{exc.hint}")


def _run_command(chat: "Chat", name: str, value: str = "") -> None:
    match name:
        case "/reset":
            chat.reset()
        case "/save" if value:
            chat.save(value)
        case "/load" if value:
            chat.load(value)
        case _:
            print(HELP)


def print_reply(chat: "Chat", text: str) -> None:
    """Print a reply as it streams. On a terminal, reasoning appears dimmed before the answer."""
    from runtime.messages import Finish, Reasoning, Text

    interactive, reasoning = is_terminal(sys.stdout), False
    dim, plain = (_DIM, _PLAIN) if supports_ansi(sys.stdout) else ("", "")
    try:
        with closing(chat.stream(text)) as events:
            for event in events:
                if interactive and reasoning != isinstance(event, Reasoning):
                    reasoning = not reasoning
                    print(dim if reasoning else f"{plain}\n", end="")
                if isinstance(event, Text) or (interactive and isinstance(event, Reasoning)):
                    print_text(event.text, end="", flush=True)
                elif interactive and isinstance(event, Finish) and event.reason == "length":
                    print(f" [cut off after {event.usage.completion_tokens:,} tokens]", end="")
    finally:
        print(plain if reasoning else "")
